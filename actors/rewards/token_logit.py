"""A language model as a judge by one position: the logit of a word, or of a word less another, where its answer would
begin. The question's beginning is cached by slot.
"""

from typing import TYPE_CHECKING

from actors.rendering.chat import ChatReader
from actors.rewards.classifier import PrefixReward
from actors.rewards.interface import ModelNeeds, RewardContext, RewardTraits
from actors.rewards.judging import PROBE_ROW, JudgeReader
from pipeline.config.model_rewards import TokenLogitReward
from pipeline.errors import ConfigError, RowError
from pipeline.records import PromptRow

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

CAUSAL = "AutoModelForCausalLM"


def traits(section: TokenLogitReward, context: RewardContext) -> RewardTraits:
    """It asks about text."""
    return RewardTraits(reads_text=True)


def needs(section: TokenLogitReward, config: "PreTrainedConfig", context: RewardContext) -> ModelNeeds:
    """A language model, words that are tokens, a template that asks about the response."""
    name = f"reward.model {section.model!r}"
    others = [saved_as for saved_as in config.architectures or [] if "Classification" in saved_as]
    if others:
        raise ConfigError(f"{name} is a {others[0]}, which has no words; that is kind classifier, encoder or process")
    _tokens(section, _reader(section, context))
    return ModelNeeds(CAUSAL, keeps_slots=section.attn_implementation is None)


def load(section: TokenLogitReward, context: RewardContext) -> PrefixReward:
    """The reader and the model."""
    from actors.engines.word_logits import load_word_engine  # imports torch

    reader = _reader(section, context)
    return PrefixReward(reader, load_word_engine(section, context.engine, _tokens(section, reader)))


def shown(section: TokenLogitReward, context: RewardContext, row: PromptRow) -> str:
    """What the model reads of a row, and what is read off it."""
    other = "" if section.other_word is None else f" - logit of {section.other_word!r}"
    return f"{_reader(section, context).shown(row)} (reward: logit of {section.word!r}{other})"


def _reader(section: TokenLogitReward, context: RewardContext) -> JudgeReader:
    reader = ChatReader("reward", section, section.wrap, context.engine.max_model_len)
    reader.check(reads_text=True)
    return JudgeReader(reader, section, context.max_tokens, context.num_kept_prompts)


def _tokens(section: TokenLogitReward, reader: JudgeReader) -> list[int]:
    """The words' tokens; raises ConfigError where the template or a word cannot be used."""
    words = [section.word] if section.other_word is None else [section.word, section.other_word]
    try:
        reader.prompts.read((PROBE_ROW,))
        return [reader.word_token(word) for word in words]
    except RowError as error:
        raise ConfigError(f"reward.template {section.template!r}: {error.message}") from None
