"""A decoder with a classification head: the logit at the last token of the conversation, its prefix cached by slot."""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from actors.engines.backends import load_engine
from actors.rendering.readers import make_reader, share_vocabulary
from actors.rewards.conversations import ConversationReader
from actors.rewards.interface import RewardContext, RewardTraits
from pipeline.config.model_rewards import ClassifierReward
from pipeline.protocol import CallStats, ScoreCohort, Scores
from pipeline.records import PromptRow, TokenArray


class PrefixEngine(Protocol):
    """Scores token prefixes from a slot cache."""

    def score(
        self, slots_R: npt.NDArray[np.int32], prefixes: list[TokenArray]
    ) -> tuple[npt.NDArray[np.float64], CallStats]: ...


class PrefixReward:
    """A reward that reads conversations into token prefixes and scores these.

    Args:
        reader: how its model reads.
        engine: what scores.
    """

    def __init__(self, reader: ConversationReader, engine: PrefixEngine) -> None:
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
    return RewardTraits(reads_text=context.policy is None or not share_vocabulary(context.policy, section))


def load(section: ClassifierReward, context: RewardContext) -> PrefixReward:
    """The reader and the model."""
    return PrefixReward(_reader(section, context), load_engine("reward", section, context.engine))


def shown(section: ClassifierReward, context: RewardContext, row: PromptRow) -> str:
    """What the model reads of a row."""
    return _reader(section, context).shown(row)


def _reader(section: ClassifierReward, context: RewardContext) -> ConversationReader:
    engine: Any = context.engine
    return ConversationReader(
        make_reader("reward", section, context.prompt_as, engine.max_model_len),
        traits(section, context).reads_text,
        section.close_turn,
        engine.max_model_len or 2**31,
        4 * (engine.slots or 1),
    )
