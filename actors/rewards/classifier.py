"""A decoder with a classification head: the logit at the last token of the conversation, its prefix cached by slot."""

from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from actors.engines.backends import load_engine
from actors.rendering.readers import make_reader
from actors.rewards.conversations import ConversationReader, ReadRows, conversation_reader, reads_text
from actors.rewards.interface import ModelNeeds, RewardContext, RewardTraits
from actors.rewards.labels import label_weights
from pipeline.config.model_rewards import ClassifierReward
from pipeline.protocol import CallStats, ScoreCohort, Scores
from pipeline.records import PromptRow, TokenArray

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


class PrefixEngine(Protocol):
    """Scores token prefixes from a slot cache."""

    def score(
        self, slots_R: npt.NDArray[np.int32], prefixes: list[TokenArray]
    ) -> tuple[npt.NDArray[np.float64], CallStats]: ...


class CohortReader(Protocol):
    """Reads conversations as token prefixes."""

    def read(self, cohort: ScoreCohort) -> ReadRows: ...


class PrefixReward:
    """A reward that reads conversations into token prefixes and scores these.

    Args:
        reader: how its model reads.
        engine: what scores.
    """

    def __init__(self, reader: CohortReader, engine: PrefixEngine) -> None:
        self.reader = reader
        self.engine = engine

    def score(self, cohort: ScoreCohort) -> Scores:
        """The reward of each row; a row that cannot be read is not scored."""
        read = self.reader.read(cohort)
        rewards_R, pushed_R = np.full(len(cohort), np.nan), np.zeros(len(cohort), np.int32)
        found_R, stats = self.engine.score(cohort.slots_R[read.places], read.prefixes)
        rewards_R[read.places], pushed_R[read.places] = found_R, stats.pushed_tokens_R
        return Scores(rewards_R, stats.of_rows(pushed_R), read.faults)


def traits(section: ClassifierReward, context: RewardContext) -> RewardTraits:
    """The policy's tokens are read as they are where the vocabulary is the same up to tokens it has beside."""
    return RewardTraits(reads_text=reads_text(section, context))


def load(section: ClassifierReward, context: RewardContext) -> PrefixReward:
    """The reader and the model."""
    return PrefixReward(_reader(section, context), load_engine("reward", section, context.engine))


def needs(section: ClassifierReward, config: "PreTrainedConfig", context: RewardContext) -> ModelNeeds:
    """A decoder with a `score` head, the labels that are named, and a template."""
    from actors.engines.pretrained import check_score_head, naming  # imports torch
    from actors.rewards.model_checks import CLASSIFIER, check_head, classifier_shape

    model = classifier_shape(section, config)
    with naming("reward", section.model):
        check_score_head(model)
    label_weights(section.model, section, config)
    check_head(section, model)
    _reader(section, context).check()
    return ModelNeeds(CLASSIFIER, keeps_slots=section.attn_implementation is None)


def shown(section: ClassifierReward, context: RewardContext, row: PromptRow) -> str:
    """What the model reads of a row."""
    return _reader(section, context).shown(row)


def _reader(section: ClassifierReward, context: RewardContext) -> ConversationReader:
    reader = make_reader("reward", section, context.prompt_as, context.engine.max_model_len)
    return conversation_reader(reader, section, context)
