"""Speculative rejection: many responses begin, the worst are dropped on the way (arXiv 2410.20290).

y_1 … y_N = ""
until all y that are left have ended or have n tokens:
    every y that has not: y = y + c,  c ~ π(· | x, y), B tokens
    keep the best (1 − rejected_fraction) of them by r(x, y), at least one
y = the one of highest reward
"""

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from pydantic import Field

from pipeline.records import DrawKey, Judgement, Propose, Response, Score, Segment, TokenArray
from pipeline.strategies.strategy_section import StrategySection
from pipeline.strategies.task import NO_TOKENS, Task, all_of


class SpeculativeRejectionConfig(StrategySection):
    """Speculative rejection, arXiv 2410.20290: N responses begin, the worst are dropped after every segment."""

    name: Literal["speculative_rejection"] = "speculative_rejection"
    segment_size: int = Field(16, ge=1, description="tokens between two rejections")
    n: int = Field(8, ge=1, description="responses that begin")
    rejected_fraction: float = Field(0.5, ge=0.0, lt=1.0, description="share of the responses dropped after a segment")

    @property
    def num_lanes(self) -> int:
        return self.n

    @property
    def max_draws(self) -> int:
        return self.n


@dataclass(frozen=True, slots=True)
class Partial:
    """A response on its way in its lane."""

    lane: int
    tokens: TokenArray = field(default_factory=lambda: NO_TOKENS)
    finished: bool = False
    reward: float = -math.inf


async def speculative_rejection(task: Task, propose: Propose, score: Score) -> Response:
    """One response out of N that begin."""
    knobs, n, segment = task.knobs, task.sampling.max_new_tokens, 0

    async def longer(partial: Partial) -> Partial:
        if partial.finished or len(partial.tokens) == n:
            return partial
        num_tokens = min(knobs.segment_size, n - len(partial.tokens))
        candidate = await propose(partial.tokens, num_tokens, DrawKey(segment, 0, partial.lane), partial.lane)
        tokens = np.concatenate([partial.tokens, candidate.tokens])
        return Partial(partial.lane, tokens, candidate.finished, await score(tokens, candidate.finished, partial.lane))

    def tell(partial: Partial, is_kept: bool) -> None:
        whole = Segment(partial.tokens, partial.finished)
        task.report(Judgement(0, partial.lane, NO_TOKENS, whole, partial.reward, None, is_kept))

    left = [Partial(lane) for lane in range(knobs.n)]
    while not all(partial.finished or len(partial.tokens) == n for partial in left):
        left = sorted(await all_of(longer(partial) for partial in left), key=lambda partial: -partial.reward)
        num_kept = max(1, math.ceil(len(left) * (1 - knobs.rejected_fraction)))
        for partial in left[num_kept:]:
            tell(partial, is_kept=False)
        left, segment = left[:num_kept], segment + 1
    best, *others = left
    for partial in [*others, best]:
        tell(partial, is_kept=partial is best)
    return Response(best.tokens, best.finished, best.reward)
