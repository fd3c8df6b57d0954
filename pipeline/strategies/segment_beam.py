"""Segment beam: after every segment the best few responses so far go on, in several continuations each.

Y = {""}
until all y in Y have ended or have n tokens:
    the y that have not are continued evenly, c ~ π(· | x, y), B tokens each, N responses in all
    Y = the W best of these y + c and of the y that have ended, by r(x, ·)
y = the one of highest reward
"""

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from pipeline.records import DrawKey, Judgement, Propose, Response, Score, Segment, SegmentRecord, TokenArray
from pipeline.strategies.strategy_section import StrategySection
from pipeline.strategies.task import NO_TOKENS, Task, all_of


class SegmentBeamConfig(StrategySection):
    """Segment beam: after every segment the best few responses so far go on, in several continuations each."""

    name: Literal["segment_beam"] = "segment_beam"
    segment_size: int = Field(16, ge=1, description="tokens in one segment")
    n: int = Field(8, ge=1, description="responses looked at after each segment, each in a slot")
    beam_width: int = Field(2, ge=1, description="how many of them go on; at most n")

    @model_validator(mode="after")
    def _beam_fits(self) -> "SegmentBeamConfig":
        if self.beam_width > self.n:
            raise ValueError(f"beam_width = {self.beam_width} is more than n = {self.n}")
        return self

    @property
    def num_lanes(self) -> int:
        return self.n

    @property
    def max_draws(self) -> int:
        return self.n


@dataclass(frozen=True, slots=True, eq=False)
class Partial:
    """A response on its way, whose last segment was drawn in `lane` as candidate `number` of its round."""

    lane: int = 0
    number: int = 0
    tokens: TokenArray = field(default_factory=lambda: NO_TOKENS)
    finished: bool = False
    reward: float = -math.inf
    parent: "Partial | None" = None

    @property
    def segment(self) -> Segment:
        assert self.parent is not None
        return Segment(self.tokens[len(self.parent.tokens) :], self.finished)


async def segment_beam(task: Task, propose: Propose, score: Score) -> Response:
    """One response out of those in the beam."""
    knobs, n = task.knobs, task.sampling.max_new_tokens
    rounds, beam = list[list[Partial]](), [Partial()]

    async def longer(parent: Partial, number: int, lane: int) -> Partial:
        num_tokens = min(knobs.segment_size, n - len(parent.tokens))
        candidate = await propose(parent.tokens, num_tokens, DrawKey(len(rounds), number), lane)
        tokens = np.concatenate([parent.tokens, candidate.tokens])
        reward = await score(tokens, candidate.finished, lane)
        return Partial(lane, number, tokens, candidate.finished, reward, parent)

    while going_on := [partial for partial in beam if not partial.finished and len(partial.tokens) < n]:
        ended = [partial for partial in beam if partial not in going_on]
        count = knobs.n - len(ended)
        parents = [going_on[i % len(going_on)] for i in range(count)]
        lanes = lanes_for(going_on, count, knobs.n)
        drawn = await all_of(longer(*child) for child in zip(parents, range(count), lanes, strict=True))
        beam = sorted([*ended, *drawn], key=lambda partial: -partial.reward)[: knobs.beam_width]
        rounds.append(drawn)
    return told(task, rounds, beam[0])


def lanes_for(going_on: list[Partial], count: int, num_lanes: int) -> list[int]:
    """A lane for each continuation: first every response's own, whose cache the others of it copy, then the rest."""
    own = [partial.lane for partial in going_on]
    return [*own, *(lane for lane in range(num_lanes) if lane not in own)][:count]


def told(task: Task, rounds: list[list[Partial]], best: Partial) -> Response:
    """The response, its segments, and every candidate reported: only now is it known which were kept."""
    path = [best]
    while (parent := path[0].parent) is not None and parent.parent is not None:
        path.insert(0, parent)
    for index, drawn in enumerate(rounds):
        for one in drawn:
            assert one.parent is not None
            before, is_kept = one.parent.tokens, one in path
            task.report(Judgement(index, one.number, before, one.segment, one.reward, None, is_kept))
    records = [
        SegmentRecord(len(one.segment.tokens), one.reward, None, None, len(drawn), "rule")
        for one, drawn in zip(path, rounds, strict=False)
    ]
    return Response(best.tokens, best.finished, best.reward, tuple(records))
