"""What a strategy is given besides its two awaitables, and what it may hold at once."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from pipeline.draws import acceptance_uniform
from pipeline.records import DrawKey, Judgement, Propose, Report, Response, SamplingParams, Score, TokenArray

NO_TOKENS: TokenArray = np.zeros(0, dtype=np.int32)


class Lanes(Protocol):
    """The lanes of a row whose attempts may overlap: its own, and those that no other row wants at the moment."""

    def take(self) -> int | None:
        """A lane that is free now, or None; never None while the row holds no lane."""
        ...

    def keep(self, lane: int) -> None:
        """Say that the response goes on from what this lane has cached: it becomes the row's own."""
        ...

    def give_back(self, lane: int) -> None: ...


class OneLane:
    """A row's own lane and no other."""

    def __init__(self) -> None:
        self.is_taken = False

    def take(self) -> int | None:
        if self.is_taken:
            return None
        self.is_taken = True
        return 0

    def keep(self, lane: int) -> None:
        pass

    def give_back(self, lane: int) -> None:
        self.is_taken = False


def report_nothing(judgement: Judgement) -> None:
    """For a task whose judgements nobody wants."""


@dataclass(frozen=True, slots=True)
class Task:
    """One prompt to answer: the strategy's knobs, the sampling parameters, and the key of all its draws.

    A strategy calls `report` for every candidate it keeps or rejects, in the order in which it judges them; the kept
    ones, joined, are the response.
    """

    knobs: Any
    sampling: SamplingParams
    row_key: int
    lanes: Lanes = field(default_factory=OneLane)
    report: Report = report_nothing

    def uniform(self, key: DrawKey) -> float:
        """The uniform in (0, 1) that belongs to the acceptance of one attempt."""
        return acceptance_uniform(self.row_key, key)


Strategy = Callable[[Task, Propose, Score], Awaitable[Response]]


async def all_of(calls: Iterable[Awaitable[Any]]) -> list[Any]:
    """Run calls side by side; when one fails, the others are cancelled and its error is raised."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


async def in_order(
    attempt: Callable[[int, int], Awaitable[Any]], count: int, width: int, lanes: Lanes
) -> AsyncGenerator[Any, None]:
    """Results of `attempt(number, lane)` for number 0, 1, … `count` - 1 in that order, up to `width` under way at once.

    Close it (`contextlib.aclosing`) at a result to keep it: its lane is kept, and what is under way is cancelled.
    """
    under_way: deque[tuple[int, asyncio.Future[Any]]] = deque()
    num_started = 0
    try:
        for _ in range(count):
            while len(under_way) < width and num_started < count and (lane := lanes.take()) is not None:
                under_way.append((lane, asyncio.ensure_future(attempt(num_started, lane))))
                num_started += 1
            result = await under_way[0][1]
            try:
                yield result
            except GeneratorExit:
                lanes.keep(under_way[0][0])
                raise
            lanes.give_back(under_way.popleft()[0])
    finally:
        for _, attempt_under_way in under_way:
            attempt_under_way.cancel()
        await asyncio.gather(*(attempt_under_way for _, attempt_under_way in under_way), return_exceptions=True)
        for lane, _ in under_way:
            lanes.give_back(lane)
