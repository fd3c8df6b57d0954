"""A process reward: the probability that each step is good, read at a mark after it, made one number."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from actors.rendering.chat import ChatReader, ChatStyle
from actors.rewards.interface import ModelNeeds, RewardContext, RewardTraits
from actors.rewards.labels import label_place
from actors.rewards.steps import StepReader
from pipeline.config.model_rewards import ProcessReward
from pipeline.errors import ConfigError
from pipeline.protocol import ScoreCohort, Scores
from pipeline.records import PromptRow

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from actors.engines.step_engine import StepEngine

TOKEN_CLASSIFIER, CAUSAL = "AutoModelForTokenClassification", "AutoModelForCausalLM"
AGGREGATIONS: dict[str, Callable[[npt.NDArray[np.float64]], float]] = {
    "last": lambda steps: float(steps[-1]),
    "min": lambda steps: float(steps.min()),
    "mean": lambda steps: float(steps.mean()),
    "product": lambda steps: float(steps.prod()),
}


class StepwiseReward:
    """Scores responses step by step.

    Args:
        reader: finds the steps.
        engine: gives their probabilities.
        aggregation: makes them one number.
    """

    def __init__(self, reader: StepReader, engine: "StepEngine", aggregation: str) -> None:
        self.reader = reader
        self.engine = engine
        self.aggregate = AGGREGATIONS[aggregation]

    def score(self, cohort: ScoreCohort) -> Scores:
        """The reward of each row; a row that cannot be read is not scored."""
        read = self.reader.read(cohort)
        rewards_R, pushed_R = np.full(len(cohort), np.nan), np.zeros(len(cohort), np.int32)
        found, stats = self.engine.score(cohort.slots_R[read.places], read.prefixes, read.ends)
        rewards_R[read.places] = [self.aggregate(steps) for steps in found]
        pushed_R[read.places] = stats.pushed_tokens_R
        return Scores(rewards_R, stats.of_rows(pushed_R), read.faults)


def traits(section: ProcessReward, context: RewardContext) -> RewardTraits:
    """Steps are found in text."""
    return RewardTraits(reads_text=True)


def needs(section: ProcessReward, config: "PreTrainedConfig", context: RewardContext) -> ModelNeeds:
    """A model of that class, its head, its label or words, a mark that can be read, a template."""
    reader = _reader(section, context)
    name = _class_name(section, config)
    if section.words is not None:
        _word_tokens(section, reader)
    else:
        from actors.rewards.model_checks import check_named_head  # imports torch

        _check_class(section, config, name)
        check_named_head(section, config, name, section.head)
        _label(section, config)
    reader.read(ScoreCohort.of_texts([PromptRow(0, "probe", prompt="Hi")], ["One." + section.step_separator], [False]))
    return ModelNeeds(name, keeps_slots=section.attn_implementation is None)


def load(section: ProcessReward, context: RewardContext) -> StepwiseReward:
    """The reader and the model."""
    from actors.engines.model_classes import own_config  # imports torch
    from actors.engines.step_models import load_token_classifier, load_word_judge

    reader = _reader(section, context)
    if section.words is not None:
        engine = load_word_judge(section, context.engine, _word_tokens(section, reader))
    else:
        config = own_config(section)
        name, label = _class_name(section, config), _label(section, config)
        engine = load_token_classifier(section, context.engine, name, label)
    return StepwiseReward(reader, engine, section.aggregation)


def shown(section: ProcessReward, context: RewardContext, row: PromptRow) -> str:
    """What the model reads of a row, of a response of two steps."""
    return f"{_reader(section, context).shown(row)} (read after each mark; reward: {section.aggregation} of the steps)"


def _class_name(section: ProcessReward, config: "PreTrainedConfig") -> str:
    if section.words is not None:
        return CAUSAL
    from actors.engines.headed_model import class_of  # imports torch

    return class_of(section, config, TOKEN_CLASSIFIER)


def _check_class(section: ProcessReward, config: "PreTrainedConfig", name: str) -> None:
    causal = [saved_as for saved_as in config.architectures or [] if saved_as.endswith("ForCausalLM")]
    if causal and name == TOKEN_CLASSIFIER:
        raise ConfigError(
            f"reward.model {section.model!r} is a {causal[0]}, which has no labels; name its good and bad word with "
            "reward.words"
        )


def _label(section: ProcessReward, config: "PreTrainedConfig") -> int | None:
    return None if section.label is None else label_place(section.model, section.label, config)


def _word_tokens(section: ProcessReward, reader: StepReader) -> list[int]:
    """The two words as tokens; raises ConfigError where one is none, or several."""
    tokenizer = reader.reader.tokenizer
    assert section.words is not None
    found = []
    for word in section.words:
        ids = [word] if isinstance(word, int) else tokenizer(word, add_special_tokens=False)["input_ids"]
        if len(ids) != 1:
            shown = " + ".join(map(repr, tokenizer.convert_ids_to_tokens(ids)))
            raise ConfigError(
                f"reward.words: {word!r} is {len(ids)} tokens ({shown}) of {section.model!r}; a number names a token"
            )
        found.append(ids[0])
    return found


def _reader(section: ProcessReward, context: RewardContext) -> StepReader:
    style = ChatStyle(section.template, section.drop_system)
    reader = ChatReader("reward", section, context.prompt_as, context.engine.max_model_len, style)
    reader.check(reads_text=True)
    if section.tokenise == "whole" and not reader.runs.is_fast:
        raise ConfigError(f"reward.model {section.model!r} has no fast tokenizer, which tells where marks are")
    return StepReader(reader, section, context.max_tokens, context.num_kept_prompts)
