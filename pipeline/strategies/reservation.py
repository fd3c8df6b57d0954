"""Reservation values: draw again as long as one more proposal is worth its price (Weitzman, Econometrica 1979).

The next prefix reward R, given the present one r, is close to normal: R ~ N(a + b·r, s), with a, b, s measured at each
segment position (jobs.calibrate). One more proposal of B tokens costs price · B and gains E[(R − z)⁺] over a
candidate of reward z in hand. The reservation value is the z at which the two are equal; a candidate that reaches it
is accepted.

until y ends or has n tokens:
    z = a + b·r + s·u,  where  s · (φ(u) − u · (1 − Φ(u))) = price · B
    up to M times:  c ~ π(· | x, y), B tokens;  accept exactly when r(x, y + c) ≥ z
    none accepted:  c = the attempt of highest reward
    y = y + c
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from pipeline.records import Propose, Response, Score, Segment, SegmentRecord
from pipeline.section import Section
from pipeline.strategies.stars import next_segment, start_response
from pipeline.strategies.strategy_section import StrategySection
from pipeline.strategies.task import NO_TOKENS, Task

WIDEST = 40.0  # standard deviations: beyond them every candidate is accepted, or none
STEPS = 60


class TransitionConfig(Section):
    """The law of the next prefix reward R given the present one r at one segment position, in reward units."""

    intercept: float = Field(description="a of R ~ N(a + b·r, s)")
    slope: float = Field(description="b")
    deviation: float = Field(gt=0.0, description="s")


class ReservationConfig(StrategySection):
    """Reservation values: a segment is drawn again as long as one more proposal is worth its price."""

    name: Literal["reservation"] = "reservation"
    segment_size: int = Field(16, ge=1, description="tokens in one segment (B)")
    max_attempts: int = Field(20, ge=1, description="proposals of a segment before the best one is kept (M)")
    price: float = Field(gt=0.0, description="what one proposed token may cost, in reward units; lower is choosier")
    transitions: tuple[TransitionConfig, ...] = Field(
        min_length=1, description="one per segment position, measured by jobs.calibrate; the last serves all later ones"
    )
    proposals_per_round: int = Field(2, ge=1, description="as for stars")

    @property
    def beta(self) -> float:
        return 0.0

    @property
    def max_draws(self) -> int:
        return max(self.max_attempts, self.proposals_per_round)


@dataclass(frozen=True, slots=True)
class Level:
    """A threshold that does not move within a segment."""

    threshold: float

    def at(self, num_response_tokens: int) -> float:
        return self.threshold


async def reservation(task: Task, propose: Propose, score: Score) -> Response:
    """One response, segment by segment."""
    knobs, n = task.knobs, task.sampling.max_new_tokens
    prompt_reward, drawn = await start_response(task, propose, score)
    reward = prompt_reward
    first_proposal: Segment | None = drawn
    response, finished, records = NO_TOKENS, False, list[SegmentRecord]()
    while not finished and len(response) < n:
        level = Level(reservation_value(knobs, len(records), reward))
        kept, record = await next_segment(task, response, level, len(records), propose, score, first_proposal)
        response, finished, first_proposal = np.concatenate([response, kept.tokens]), kept.finished, None
        reward = record.reward
        records.append(record)
    return Response(response, finished, reward, tuple(records), prompt_reward=prompt_reward)


def reservation_value(knobs: ReservationConfig, segment: int, reward: float) -> float:
    """z for the segment number `segment`, in reward units, when the reward so far is `reward`."""
    law = knobs.transitions[min(segment, len(knobs.transitions) - 1)]
    price = knobs.price * knobs.segment_size
    return law.intercept + law.slope * reward + law.deviation * _deviates(price / law.deviation)


def _deviates(gain: float) -> float:
    """The u with E[(X − u)⁺] = gain for a standard normal X, by bisection."""
    low, high = -WIDEST, WIDEST
    for _ in range(STEPS):
        u = (low + high) / 2
        density, tail = math.exp(-u * u / 2) / math.sqrt(2 * math.pi), math.erfc(u / math.sqrt(2)) / 2
        low, high = (u, high) if density - u * tail > gain else (low, u)
    return (low + high) / 2
