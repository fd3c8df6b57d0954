"""A body with a head that transformers does not know: the head's number at the last token, its prefix cached by slot;
or whatever the model's own forward gives for the whole conversation.
"""

from typing import TYPE_CHECKING, Any

from actors.rendering.readers import make_reader
from actors.rewards.classifier import PrefixReward
from actors.rewards.conversations import ConversationReader, conversation_reader, reads_text
from actors.rewards.interface import ModelNeeds, RewardContext, RewardTraits
from actors.rewards.labels import head_weights
from pipeline.config.model_rewards import CustomHeadReward
from pipeline.errors import ConfigError
from pipeline.records import PromptRow

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

BODY = "AutoModel"


def traits(section: CustomHeadReward, context: RewardContext) -> RewardTraits:
    """The policy's tokens are read as they are where the vocabulary is the same up to tokens it has beside."""
    return RewardTraits(reads_text=reads_text(section, context))


def needs(section: CustomHeadReward, config: "PreTrainedConfig", context: RewardContext) -> ModelNeeds:
    """A class, a head of that name in it and in the checkpoint, a template."""
    from actors.rewards.model_checks import check_named_head  # imports torch

    name = _class_name(section, config)
    head_weights(section.model, section, config)
    if section.output is None:
        check_named_head(section, config, name, section.head, is_apart=section.head_class is not None)
    _reader(section, context, config).check()
    return ModelNeeds(name, keeps_slots=section.attn_implementation is None and section.output is None)


def load(section: CustomHeadReward, context: RewardContext) -> PrefixReward:
    """The reader and the model."""
    from actors.engines.headed_model import load_custom_engine  # imports torch
    from actors.engines.model_classes import own_config

    config = own_config(section)
    weights = head_weights(section.model, section, config)
    engine = load_custom_engine(section, context.engine, _class_name(section, config), weights)
    return PrefixReward(_reader(section, context, config), engine)


def shown(section: CustomHeadReward, context: RewardContext, row: PromptRow) -> str:
    """What the model reads of a row."""
    from actors.engines.model_classes import own_config  # imports torch

    return _reader(section, context, own_config(section)).shown(row)


def _class_name(section: CustomHeadReward, config: "PreTrainedConfig") -> str:
    from actors.engines.headed_model import class_of  # imports torch

    return BODY if section.head_class is not None else class_of(section, config, BODY)


def _reader(section: CustomHeadReward, context: RewardContext, config: "PreTrainedConfig") -> ConversationReader:
    reader: Any = make_reader("reward", section, context.prompt_as, context.engine.max_model_len)
    last = section.last_token if section.last_token is not None else getattr(config, "reward_token_id", None)
    if isinstance(last, str):
        known = reader.tokenizer.get_vocab()
        if last not in known:
            raise ConfigError(f"reward.last_token: {last!r} is no token of {section.model!r}")
        last = known[last]
    return conversation_reader(reader, section, context, last)
