"""Two queues between strategies and models: rows that wait for a proposal, and rows that wait for a score.

Invariants:
- every request is answered exactly once, with its result or with the error of its model call;
- a cohort too large for a model's memory goes back in line, to be sent in halves; a row too large alone is at fault;
- at most two calls per model are under way (one computes, the next waits in its mailbox, so that the model does not
  idle while an answer travels);
- a cohort is at most a 1/`cohorts_in_flight` share of all rows under way: one is scored while another is decoded;
- a request never waits while nothing is under way.
"""

import asyncio
import math
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.config import CoordinatorConfig
from pipeline.errors import ModelOutOfMemory, RowError
from pipeline.records import (
    CallStats,
    DrawKey,
    EntropyStop,
    Proposals,
    ProposeCohort,
    SamplingParams,
    ScoreCohort,
    Scores,
    Segment,
    TokenArray,
)

MAX_CALLS = 2  # per model: one computing, one in the mailbox
# A call costs nearly the same for few rows as for many, so few wait for company. A model that is busy anyway is sent
# more than two thirds of a full cohort, lest the rows break up into three or more groups that never meet again.
MIN_FILL_WHEN_IDLE = 0.5
MIN_FILL_WHEN_BUSY = 0.75


@dataclass(slots=True)
class Ledger:
    """What one row has cost so far, and how many of its requests are with a model now."""

    policy_tokens: int = 0
    reward_tokens: int = 0
    policy_calls: int = 0
    reward_calls: int = 0
    num_under_way: int = 0
    _is_settled: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def costs(self) -> dict[str, int]:
        """The columns of a row's result that say what it cost."""
        return {
            "num_policy_tokens": self.policy_tokens,
            "num_reward_tokens": self.reward_tokens,
            "num_policy_calls": self.policy_calls,
            "num_reward_calls": self.reward_calls,
        }

    async def settled(self) -> None:
        """Wait until the cost of cancelled requests that a model had begun is known too."""
        while self.num_under_way:
            self._is_settled.clear()
            await self._is_settled.wait()

    def end_request(self) -> None:
        self.num_under_way -= 1
        self._is_settled.set()


@dataclass(slots=True, eq=False)
class ProposeRequest:
    slot: int
    prefix: TokenArray
    num_tokens: int
    row_key: int
    draw: DrawKey
    sampling: SamplingParams
    ledger: Ledger
    answer: "asyncio.Future[Segment]"
    stop: EntropyStop | None = None


@dataclass(slots=True, eq=False)
class ScoreRequest:
    slot: int
    prefix: TokenArray
    ledger: Ledger
    answer: "asyncio.Future[float]"


@dataclass(slots=True)
class CohortQueue:
    """Requests that wait for one model.

    Args:
        role: "policy" or "reward".
        call: sends a cohort of requests to the model, answers them, returns what it cost.
    """

    role: str
    call: Callable[[list[Any]], Awaitable[CallStats]]
    waiting: deque[Any] = field(default_factory=deque)
    num_calls: int = 0
    num_rows_under_way: int = 0
    memory_limit: int = sys.maxsize  # most rows of a call, as far as the model's memory was heard of

    def take(self, target: int, is_anything_under_way: bool) -> list[Any]:
        """The next cohort, or nothing if it is better to wait."""
        if not self.waiting or self.num_calls >= MAX_CALLS:
            return []
        fill = MIN_FILL_WHEN_BUSY if self.num_calls else MIN_FILL_WHEN_IDLE
        if is_anything_under_way and len(self.waiting) < fill * target:
            return []
        return [self.waiting.popleft() for _ in range(min(target, len(self.waiting)))]

    def shrink(self, cohort: list[Any], error: ModelOutOfMemory) -> None:
        """Send no cohort larger than half of this one from now on. A row that does not fit alone is an error row, and
        no reason to send the others one by one."""
        if len(cohort) > 1:
            self.memory_limit = min(self.memory_limit, -(-len(cohort) // 2))
            self.waiting.extendleft(reversed([request for request in cohort if not request.answer.done()]))
        elif not cohort[0].answer.done():
            self.memory_limit = sys.maxsize
            cohort[0].answer.set_exception(RowError("out_of_memory", f"even alone in its call, {error}"))


class CohortScheduler:
    """Sends the next cohort whenever a model is free to take one.

    Args:
        config: cohorts in flight and their size.
        queues: one per model, the most urgent first.
        on_stats: told of every finished call: (role, stats).
    """

    def __init__(
        self, config: CoordinatorConfig, queues: list[CohortQueue], on_stats: Callable[[str, CallStats], None]
    ) -> None:
        self.config = config
        self.queues = queues
        self.on_stats = on_stats
        self._is_pump_due = False
        self._calls: set[asyncio.Task[None]] = set()

    def submit(self, queue: CohortQueue, request: Any) -> None:
        """Put a request in line; it is sent with the next cohort of its queue."""
        queue.waiting.append(request)
        self._wake()

    def _wake(self) -> None:
        """Pump once the coroutines that are ready now have put their own requests in line."""
        if not self._is_pump_due:
            self._is_pump_due = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._is_pump_due = False
        for queue in self.queues:
            queue.waiting = deque(request for request in queue.waiting if not request.answer.done())
        while any([self._dispatch(queue) for queue in self.queues]):
            pass

    def _dispatch(self, queue: CohortQueue) -> bool:
        total = sum(len(q.waiting) + q.num_rows_under_way for q in self.queues)
        target = -(-total // self.config.cohorts_in_flight)
        target = min(target, queue.memory_limit, self.config.max_cohort_size or target)
        is_anything_under_way = any(q.num_calls for q in self.queues)
        if is_anything_under_way and self.config.cohorts_in_flight == 1:
            return False
        cohort = queue.take(target, is_anything_under_way)
        if cohort:
            queue.num_calls += 1
            queue.num_rows_under_way += len(cohort)
            for request in cohort:
                request.ledger.num_under_way += 1
            task = asyncio.get_running_loop().create_task(self._run(queue, cohort))
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)
        return bool(cohort)

    async def _run(self, queue: CohortQueue, cohort: list[Any]) -> None:
        try:
            self.on_stats(queue.role, await queue.call(cohort))
        except ModelOutOfMemory as error:
            queue.shrink(cohort, error)
        except Exception as error:  # the call's own failure belongs to the rows that asked for it
            for request in cohort:
                if not request.answer.done():
                    request.answer.set_exception(error)
        finally:
            queue.num_calls -= 1
            queue.num_rows_under_way -= len(cohort)
            for request in cohort:
                request.ledger.end_request()
            self._wake()


def propose_cohort(requests: list[ProposeRequest]) -> ProposeCohort:
    """Lay requests out as the arrays that cross to the policy."""
    return ProposeCohort(
        slots_R=np.array([r.slot for r in requests], dtype=np.int32),
        prefix_tokens=np.concatenate([r.prefix for r in requests]),
        prefix_lengths_R=np.array([len(r.prefix) for r in requests], dtype=np.int32),
        num_tokens_R=np.array([r.num_tokens for r in requests], dtype=np.int32),
        row_keys_R=np.array([r.row_key for r in requests], dtype=np.int64),
        draw_keys_R3=np.array([(r.draw.lane, r.draw.segment, r.draw.attempt) for r in requests], dtype=np.int64),
        temperature_R=np.array([r.sampling.temperature for r in requests], dtype=np.float32),
        top_p_R=np.array([r.sampling.top_p for r in requests], dtype=np.float32),
        top_k_R=np.array([r.sampling.top_k for r in requests], dtype=np.int32),
        **_entropy_stops(requests),
    )


def _entropy_stops(requests: list[ProposeRequest]) -> dict[str, Any]:
    if all(request.stop is None for request in requests):
        return {}
    stops = [request.stop or EntropyStop(math.inf, 0) for request in requests]
    return {
        "stop_entropy_R": np.array([stop.threshold for stop in stops], dtype=np.float32),
        "stop_after_R": np.array([stop.min_tokens for stop in stops], dtype=np.int32),
    }


def score_cohort(requests: list[ScoreRequest]) -> ScoreCohort:
    """Lay requests out as the arrays that cross to the reward model."""
    return ScoreCohort(
        slots_R=np.array([r.slot for r in requests], dtype=np.int32),
        prefix_tokens=np.concatenate([r.prefix for r in requests]),
        prefix_lengths_R=np.array([len(r.prefix) for r in requests], dtype=np.int32),
    )


def answer_proposals(requests: list[ProposeRequest], proposals: Proposals) -> None:
    """Give every row its segment and charge its ledger."""
    for i, request in enumerate(requests):
        request.ledger.policy_calls += 1
        request.ledger.policy_tokens += int(proposals.stats.pushed_tokens_R[i])
        if request.answer.done():
            continue
        if proposals.invalid_R is not None and proposals.invalid_R[i]:
            request.answer.set_exception(RowError("non_finite_logits", "the policy gave logits that are not finite"))
        else:
            tokens = proposals.tokens_RT[i, : proposals.lengths_R[i]]
            request.answer.set_result(Segment(tokens, bool(proposals.finished_R[i])))


def answer_scores(requests: list[ScoreRequest], scores: Scores) -> None:
    """Give every row its reward and charge its ledger."""
    for i, request in enumerate(requests):
        request.ledger.reward_calls += 1
        request.ledger.reward_tokens += int(scores.stats.pushed_tokens_R[i])
        if not request.answer.done():
            request.answer.set_result(float(scores.rewards_R[i]))
