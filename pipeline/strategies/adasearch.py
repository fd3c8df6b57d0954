"""AdaSearch: blockwise best-of-K with most candidates early, where they decide most (arXiv 2510.23334).

Segment i is the best of α(i) candidates; α decays as exp(−decay · i), and over a response of n tokens it sums to the
budget.
"""

import math
from typing import Literal

from pydantic import Field

from pipeline.records import Propose, Response, Score
from pipeline.strategies.blockwise_best_of_k import best_of_blocks
from pipeline.strategies.strategy_section import StrategySection
from pipeline.strategies.task import Task


class AdaSearchConfig(StrategySection):
    """AdaSearch, arXiv 2510.23334: blockwise best-of-K with most candidates early."""

    name: Literal["adasearch"] = "adasearch"
    segment_size: int = Field(16, ge=1, description="tokens in one segment")
    budget: int = Field(32, ge=1, description="candidates over max_new_tokens; each segment has at least one")
    decay: float = Field(0.4, ge=0.0, description="candidates fall as exp(-decay · segment); 0 spreads them evenly")
    lanes: int = Field(4, ge=2, description="candidates drawn at once, each in a slot; changes no response")

    @property
    def num_lanes(self) -> int:
        return self.lanes

    @property
    def max_draws(self) -> int:
        return max(self.budget, self.lanes)


async def adasearch(task: Task, propose: Propose, score: Score) -> Response:
    """One response, segment by segment, by a decaying schedule."""
    num_segments = math.ceil(task.sampling.max_new_tokens / task.knobs.segment_size)
    return await best_of_blocks(task, propose, score, schedule(num_segments, task.knobs.budget, task.knobs.decay))


def schedule(num_segments: int, budget: int, decay: float) -> list[int]:
    """Candidates of each segment: one, and of the rest of the budget a share that decays; what rounding leaves goes to
    the segments of the largest remainders, the earliest first."""
    weights = [math.exp(-decay * i) for i in range(num_segments)]
    shares = [max(0, budget - num_segments) * weight / sum(weights) for weight in weights]
    counts = [1 + math.floor(share) for share in shares]
    by_remainder = sorted(range(num_segments), key=lambda i: math.floor(shares[i]) - shares[i])
    for i in by_remainder[: max(0, budget - sum(counts))]:
        counts[i] += 1
    return counts
