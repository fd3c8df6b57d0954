"""What a strategy is given besides its two awaitables, and what it may hold at once."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.draws import acceptance_uniform
from pipeline.records import DrawKey, Propose, Response, SamplingParams, Score, TokenArray

NO_TOKENS: TokenArray = np.zeros(0, dtype=np.int32)


@dataclass(frozen=True, slots=True)
class Task:
    """One prompt to answer: the strategy's knobs, the sampling parameters, and the key of all its draws."""

    knobs: Any
    sampling: SamplingParams
    row_key: int

    def uniform(self, key: DrawKey) -> float:
        """The uniform in (0, 1) that belongs to the acceptance of one attempt."""
        return acceptance_uniform(self.row_key, key)


@dataclass(frozen=True, slots=True)
class Strategy:
    """A decoding strategy.

    Args:
        run: the algorithm.
        num_lanes: streams of proposals one row holds at once; each takes a slot.
    """

    run: Callable[[Task, Propose, Score], Awaitable[Response]]
    num_lanes: Callable[[Any], int]


async def all_of(calls: Iterable[Awaitable[Any]]) -> list[Any]:
    """Run calls side by side; when one fails, the others are cancelled and its error is raised."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
