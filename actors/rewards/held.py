"""A reward that has a model in this process: one call at a time, and loaded anew after it ran out of memory."""

from collections.abc import Callable

from actors.models.engine_holder import EngineHolder
from actors.rewards.interface import Reward
from pipeline.protocol import ScoreCohort, Scores


class HeldReward:
    """Lends the model to one call after the other.

    Args:
        load: loads it.
    """

    def __init__(self, load: Callable[[], Reward]) -> None:
        self.holder = EngineHolder("reward", load)

    def score(self, cohort: ScoreCohort) -> Scores:
        """See `Reward`; raises ModelOutOfMemory."""
        with self.holder.engine() as reward:
            return reward.score(cohort)
