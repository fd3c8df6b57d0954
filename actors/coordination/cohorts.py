"""The queues between strategies and models, one per model actor: rows that wait for a proposal, or for a score.

A slot of the cell lives on one policy actor and on one reward actor, and so does the row that holds it: each actor's
cohorts are cut from its own rows.

Invariants:
- every request is answered exactly once, with its result or with the error of its model call;
- a cohort too large for a model's memory goes back in line, to be sent in halves; a row too large alone is at fault;
- a cohort under which a model died goes back in line and is sent with no other call beside it, so that a row which
  kills the model is found by halving; other rows lose time only;
- at most two calls per model are under way (one computes, the next waits in its mailbox, so that the model does not
  idle while an answer travels); a policy whose calls join at a token has more, because they decode together;
- a cohort is at most a 1/`cohorts_in_flight` share of its actor's rows: one is scored while another is decoded;
- a request never waits while nothing is under way.
"""

import asyncio
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from actors.coordination.requests import ProposeRequest, ScoreRequest
from pipeline.config.decoding import CoordinatorConfig
from pipeline.errors import ModelDied, ModelError, ModelOutOfMemory, RowError
from pipeline.protocol import MAX_DEATHS, CallStats
from pipeline.runs.usage import RoleUsage

MAX_CALLS = 2  # per model: one computing, one in the mailbox, so that it does not idle while an answer travels
MAX_JOINED_CALLS = 8
# A call costs nearly the same for few rows as for many, so few wait for company. A model that is busy anyway is sent
# more than two thirds of a full cohort, lest the rows break up into three or more groups that never meet again.
MIN_FILL_WHEN_IDLE = 0.5
MIN_FILL_WHEN_BUSY = 0.75
# Where calls join at a token, rows that wait are what narrows the decoding: a call need only be worth its own overhead,
# and a reward model that idles takes what there is.
MIN_FILL_WHEN_JOINED = 0.25


@dataclass(slots=True, eq=False)
class CohortQueue:
    """Requests that wait for one model actor.

    Args:
        role: "policy" or "reward".
        slots: the slots of the cell that live on this actor.
        call: sends a cohort of requests to the model, answers them, returns what it cost.
        num_sources: actors whose cohorts arrive here: several policies may share a reward model.
    """

    role: str
    slots: range
    call: Callable[[list[Any]], Awaitable[CallStats]]
    num_sources: int = 1
    max_calls: int = MAX_CALLS
    rows_per_call: int | None = None  # most that are worth one call, where rows do not gain by company
    waiting: deque[Any] = field(default_factory=deque)
    num_calls: int = 0
    num_rows: int = 0  # that live on this actor and wait or are under way, here or at the other model
    can_be_joined: bool = False  # as its answers say
    limit: int = sys.maxsize  # most rows of a call: larger ones ran out of memory, or the model died under them
    num_deaths: int = 0  # of the model, without an answer between them
    num_killers: int = 0  # rows that killed it alone, without an answer between them
    suspects: set[Any] = field(default_factory=set)  # requests under which it died
    usage: RoleUsage = field(default_factory=RoleUsage)

    def take(self, most: int, enough: int) -> list[Any]:
        """The next cohort of at most `most` rows, or nothing if it is better to wait for `enough` of them."""
        max_calls = MAX_JOINED_CALLS if self.can_be_joined else self.max_calls
        if self.is_careful:
            max_calls = 1
        if not self.waiting or self.num_calls >= max_calls or len(self.waiting) < enough:
            return []
        return [self.waiting.popleft() for _ in range(min(most, len(self.waiting)))]

    @property
    def is_careful(self) -> bool:
        """Whether one call at a time is sent, so that it is known under which the model dies."""
        return any(not request.answer.done() for request in self.suspects)

    def answered(self, stats: CallStats, waited_s: float) -> None:
        """A call was answered."""
        self.usage = self.usage.add(stats, waited_s)
        self.can_be_joined = stats.can_be_joined
        self.num_deaths = self.num_killers = 0

    def out_of_memory(self, cohort: list[Any], error: ModelOutOfMemory) -> list[Any]:
        """A call found no memory; returns the rows that are to be sent again."""
        return self._halve(cohort, RowError("out_of_memory", f"even alone in its call, {error}"))

    def died(self, cohort: list[Any], was_alone: bool, error: ModelDied) -> list[Any]:
        """The model died under a call; returns the rows that are to be sent again. The fault may be another call's
        unless this one `was_alone`. Several rows in a row that kill the model are its fault, not theirs."""
        self.suspects.update(cohort)
        self.num_deaths = self.num_deaths + 1 if was_alone else max(self.num_deaths, 1)
        if self.num_deaths < MAX_DEATHS:
            return [request for request in cohort if not request.answer.done()]
        self.num_deaths = 0
        self.num_killers += len(cohort) == 1
        fault: RowError | ModelError = RowError("model_died", f"{error} {MAX_DEATHS} times while it had this row alone")
        if self.num_killers >= MAX_DEATHS:
            fault = ModelError(f"{error} {MAX_DEATHS} times under each of {MAX_DEATHS} rows that it had alone")
        return self._halve(cohort, fault)

    def _halve(self, cohort: list[Any], fault: RowError | ModelError) -> list[Any]:
        """Send no cohort larger than half of this one from now on. A row that fails alone gets the fault, and is no
        reason to send the others one by one. Returns the rows that are to be sent again."""
        if len(cohort) > 1:
            self.limit = min(self.limit, -(-len(cohort) // 2))
            return [request for request in cohort if not request.answer.done()]
        if not cohort[0].answer.done():
            self.limit = sys.maxsize
            cohort[0].answer.set_exception(fault)
        return []


class CohortScheduler:
    """Sends the next cohort whenever a model is free to take one.

    Args:
        config: cohorts in flight and their size.
        policies: one queue per policy actor; together they hold every slot once.
        rewards: one queue per reward actor; the same.
    """

    def __init__(self, config: CoordinatorConfig, policies: list[CohortQueue], rewards: list[CohortQueue]) -> None:
        self.config = config
        self.policies = policies
        self.rewards = rewards
        self.queues = [*rewards, *policies]  # the most urgent first
        self._is_pump_due = False
        self._calls: set[asyncio.Task[None]] = set()

    def submit_proposal(self, request: ProposeRequest) -> None:
        """Put a request in line; it is sent with the next cohort of its policy actor."""
        self._submit(_home(self.policies, request.slot), request)

    def submit_score(self, request: ScoreRequest) -> None:
        """The same for its reward actor."""
        self._submit(_home(self.rewards, request.slot), request)

    def _submit(self, queue: CohortQueue, request: Any) -> None:
        queue.waiting.append(request)
        request.submitted_s = asyncio.get_running_loop().time()
        self._count(request, 1)
        self._wake()

    def _count(self, request: Any, change: int) -> None:
        _home(self.policies, request.slot).num_rows += change
        _home(self.rewards, request.slot).num_rows += change

    def _wake(self) -> None:
        """Pump once the coroutines that are ready now have put their own requests in line."""
        if not self._is_pump_due:
            self._is_pump_due = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._is_pump_due = False
        for queue in self.queues:
            for request in [request for request in queue.waiting if request.answer.done()]:
                queue.waiting.remove(request)
                self._count(request, -1)
        while any([self._dispatch(queue) for queue in self.queues]):
            pass

    def _dispatch(self, queue: CohortQueue) -> bool:
        is_anything_under_way = any(q.num_calls for q in self.queues)
        if is_anything_under_way and self.config.cohorts_in_flight == 1 and not queue.rows_per_call:
            return False
        share = -(-queue.num_rows // self.config.cohorts_in_flight)
        most = min(share, queue.limit, self.config.max_cohort_size or share, queue.rows_per_call or share)
        enough = min(most, -(-queue.num_rows // (self.config.cohorts_in_flight * queue.num_sources)))
        cohort = queue.take(most, int(self._fill(queue) * enough) if is_anything_under_way else 1)
        if cohort:
            queue.num_calls += 1
            for request in cohort:
                request.ledger.num_under_way += 1
            task = asyncio.get_running_loop().create_task(self._run(queue, cohort, queue.is_careful))
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)
        return bool(cohort)

    def _fill(self, queue: CohortQueue) -> float:
        """The share of a full cohort that is worth a call now."""
        if queue.rows_per_call:
            return 0.0
        if queue.can_be_joined:
            return MIN_FILL_WHEN_JOINED
        if queue.num_calls:
            return MIN_FILL_WHEN_BUSY
        return 0.0 if any(policy.can_be_joined for policy in self.policies) else MIN_FILL_WHEN_IDLE

    async def _run(self, queue: CohortQueue, cohort: list[Any], is_alone: bool) -> None:
        again: list[Any] = []
        now_s = asyncio.get_running_loop().time()
        waited_s = sum(now_s - request.submitted_s for request in cohort)
        try:
            queue.answered(await queue.call(cohort), waited_s)
        except ModelOutOfMemory as error:
            again = queue.out_of_memory(cohort, error)
        except ModelDied as error:
            again = queue.died(cohort, is_alone, error)
        except Exception as error:  # the call's own failure belongs to the rows that asked for it
            for request in cohort:
                if not request.answer.done():
                    request.answer.set_exception(error)
        finally:
            queue.num_calls -= 1
            queue.suspects = {request for request in queue.suspects if not request.answer.done()}
            queue.waiting.extendleft(reversed(again))
            for request in cohort:
                request.ledger.end_request()
                if request not in again:
                    self._count(request, -1)
            self._wake()


def _home(queues: list[CohortQueue], slot: int) -> CohortQueue:
    """The queue of the actor that a slot lives on; all but the last actor hold equally many."""
    return queues[slot // len(queues[0].slots)]
