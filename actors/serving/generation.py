"""The choices of one request under way: events as they come, and nothing left behind when the client goes.

Invariant: an admitted request leaves exactly once, however it ends; a choice whose client is gone is cancelled and
costs at most the model call that has begun.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from actors.coordination.coordinator import SegmentCoordinator
from actors.serving.answer_plan import Plan
from actors.serving.api_errors import ApiError, models_unavailable, server_failed
from actors.serving.prompts import prompt_error
from pipeline.errors import ModelError, RowError
from pipeline.records import Judgement, PromptRow, RowResult

logger = logging.getLogger("ray.serve")


@dataclass(slots=True)
class Admission:
    """How many answers are under way, and how many may be."""

    limit: int
    retry_after_s: int
    num_under_way: int = 0

    def enter(self, count: int) -> None:
        """Raises ApiError 429 where there is no room."""
        if self.num_under_way + count > self.limit:
            raise ApiError(
                429,
                f"{self.num_under_way} of at most {self.limit} answers are under way; try again later",
                code="rate_limit_exceeded",
                headers={"Retry-After": str(self.retry_after_s)},
            )
        self.num_under_way += count

    def leave(self, count: int) -> None:
        self.num_under_way -= count


@dataclass(frozen=True, slots=True)
class Event:
    """A judgement about a candidate of a choice, or the choice's result."""

    choice: int
    what: Judgement | RowResult


@dataclass(slots=True)
class Discarded:
    """Tokens judged and not kept, of all choices. What the fallback keeps after all is told of twice."""

    num_tokens: int = 0
    by_draw: dict[tuple[int, int, int], int] = field(default_factory=dict)

    def add(self, event: Event, judgement: Judgement) -> None:
        draw = (event.choice, judgement.segment, judgement.attempt)
        if judgement.is_kept:
            self.num_tokens -= self.by_draw.get(draw, 0)
        else:
            self.by_draw[draw] = len(judgement.candidate.tokens)
            self.num_tokens += self.by_draw[draw]


class Generation:
    """One admitted request. `close` it, always.

    Raises:
        ApiError: 429.
    """

    def __init__(self, plan: Plan, coordinator: SegmentCoordinator, admission: Admission) -> None:
        admission.enter(len(plan.rows))
        self.plan = plan
        self.coordinator = coordinator
        self.admission = admission
        self.discarded = Discarded()
        self.results: dict[int, RowResult] = {}
        self._queue: asyncio.Queue[Event | Exception] = asyncio.Queue()
        self._tasks = [asyncio.create_task(self._answer(i, row)) for i, row in enumerate(plan.rows)]
        self._is_open = True

    async def events(self) -> AsyncIterator[Event]:
        """Everything that happens, until every choice has its result.

        Raises:
            ApiError: a choice failed.
        """
        while len(self.results) < len(self.plan.rows):
            event = await self._queue.get()
            if isinstance(event, Exception):
                raise _api_error(event, self.plan.request_id)
            if isinstance(event.what, RowResult):
                self.results[event.choice] = event.what
            else:
                self.discarded.add(event, event.what)
            yield event

    async def close(self) -> None:
        """Cancel what is still under way and make room for other requests."""
        if not self._is_open:
            return
        self._is_open = False
        for task in self._tasks:
            task.cancel()
        self.admission.leave(len(self._tasks))
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _answer(self, choice: int, row: PromptRow) -> None:
        def report(judgement: Judgement) -> None:
            self._queue.put_nowait(Event(choice, judgement))

        try:
            prompt = self.plan.prompts[self.plan.prompt_of(choice)]
            result = await self.coordinator.align(row, self.plan.strategy, report, prompt)
        except Exception as error:
            self._queue.put_nowait(error)
            return
        if result.error_type is None:
            self._queue.put_nowait(Event(choice, result))
        else:
            fault = RowError(result.error_type, result.error or "")
            self._queue.put_nowait(prompt_error(fault, self.plan.param, self.coordinator.config.engine.max_model_len))


def _api_error(error: Exception, request_id: str) -> ApiError:
    if isinstance(error, ApiError):
        return error
    logger.error("request %s failed", request_id, exc_info=error)
    return models_unavailable() if isinstance(error, ModelError) else server_failed()
