"""The choices of one request under way: events as they come, and nothing left behind when the client goes.

Invariants: an admitted request leaves exactly once, however it ends; a choice whose client is gone, or whose time is
up, is cancelled and costs at most the model call that has begun.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from actors.coordination.coordinator import SegmentCoordinator
from actors.serving.admission import Admission
from actors.serving.answer_plan import Plan
from actors.serving.api_errors import ApiError, models_unavailable, server_failed
from actors.serving.fair_slots import FairSlots
from actors.serving.prompt_queue import PromptQueue, prompt_error, with_prompts
from actors.serving.server_config import ServeConfig
from actors.serving.unfinished import UnfinishedAnswer
from pipeline.errors import ModelError, RowError
from pipeline.records import Judgement, PromptRow, RowResult

logger = logging.getLogger("ray.serve")


@dataclass(frozen=True, slots=True)
class Answering:
    """What all requests share: who decodes, whose turn it is, and how long each may take."""

    coordinator: SegmentCoordinator
    admission: Admission
    slots: FairSlots
    max_request_s: float


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
    """One admitted request. `begin` it once, and `close` it, always.

    Args:
        plan: what it asks for.
        answering: what it shares with other requests.
        client: whose it is.

    Raises:
        ApiError: 429 or 503, it is not admitted.
    """

    def __init__(self, plan: Plan, answering: Answering, client: str) -> None:
        answering.admission.enter(client, len(plan.rows))
        self.plan = plan
        self.answering = answering
        self.coordinator = answering.coordinator
        self.client = client
        self.discarded = Discarded()
        self.results: dict[int, RowResult] = {}
        self.cut_off: set[int] = set()
        self._queue: asyncio.Queue[Event | Exception] = asyncio.Queue()
        self._ends_at_s = asyncio.get_running_loop().time() + answering.max_request_s
        self._tasks: list[asyncio.Task[None]] = []
        self._has_text = False
        self._is_open = True

    async def begin(self, prompts: PromptQueue, config: ServeConfig) -> None:
        """Read the prompts, then answer them.

        Raises:
            ApiError: a prompt cannot be answered.
        """
        self.plan = await with_prompts(self.plan, prompts, config)
        self._tasks = [asyncio.create_task(self._answer(i, row)) for i, row in enumerate(self.plan.rows)]

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
        self.answering.admission.leave(self.client, len(self.plan.rows))
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _answer(self, choice: int, row: PromptRow) -> None:
        so_far = UnfinishedAnswer()

        def report(judgement: Judgement) -> None:
            so_far.add(judgement)
            self._has_text |= judgement.is_kept
            self._queue.put_nowait(Event(choice, judgement))

        prompt, left_s = self.plan.prompts[self.plan.prompt_of(choice)], 0.0
        try:
            async with (
                asyncio.timeout_at(self._ends_at_s),
                self.answering.slots.held(self.client, self.plan.strategy.num_lanes),
            ):
                left_s = self._ends_at_s - asyncio.get_running_loop().time()
                result = await self.coordinator.align(row, self.plan.strategy, report, prompt)
        except TimeoutError:
            self._queue.put_nowait(self._cut_off(choice, so_far, left_s))
        except Exception as error:
            self._queue.put_nowait(error)
        else:
            self._queue.put_nowait(self._ended(choice, result))

    def _ended(self, choice: int, result: RowResult) -> Event | ApiError:
        if result.error_type is None:
            self._has_text = True
            return Event(choice, result)
        max_model_len = self.coordinator.config.engine.max_model_len
        return prompt_error(RowError(result.error_type, result.error or ""), self.plan.param, max_model_len)

    def _cut_off(self, choice: int, so_far: UnfinishedAnswer, left_s: float) -> Event | ApiError:
        """What is there when the time is up: nothing at all is an error, unless another choice has something."""
        if not self._has_text:
            return _too_late(self.answering, left_s)
        seed = self.plan.rows[choice].sampling_overrides.get("seed", self.coordinator.config.seed)
        num_prompt_tokens = len(self.plan.prompts[self.plan.prompt_of(choice)])
        nothing = RowResult(self.plan.strategy.name, seed, "length", "", num_prompt_tokens=num_prompt_tokens)
        self.cut_off.add(choice)
        return Event(choice, so_far.result(nothing, self.coordinator.reader.text, self.plan.stop))


def _too_late(answering: Answering, left_s: float) -> ApiError:
    """For an answer of which nothing is ready, and that had so many seconds when it got its slots."""
    limit = f"{answering.max_request_s:g} s"
    if (
        left_s > answering.max_request_s / 2
    ):  # the same request would fare no better: clients of OpenAI's are told not to repeat it
        what = f"nothing of the answer was ready after {limit}; ask for fewer tokens, attempts or answers"
        return ApiError(503, what, None, "deadline_exceeded", {"X-Should-Retry": "false"})
    wait = {"Retry-After": str(answering.admission.retry_after_s(1))}
    return ApiError(
        503,
        f"the answer waited too long for its turn to be ready within {limit}; try again later",
        None,
        "overloaded",
        wait,
    )


def _api_error(error: Exception, request_id: str) -> ApiError:
    if isinstance(error, ApiError):
        return error
    logger.error("request %s failed", request_id, exc_info=error)
    return models_unavailable() if isinstance(error, ModelError) else server_failed()
