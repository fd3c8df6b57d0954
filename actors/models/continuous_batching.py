"""The thread that owns the policy's engine: calls that arrive while others decode join them at the next token.

Without it two cohorts would decode one after the other, each at half the width. Invariants:
- the engine is used by this thread alone, one call or step at a time;
- calls under way share no slot: one that names a busy slot (its row was cancelled, or asks again) waits;
- when memory runs out while several calls are under way, none is to blame: from then on each is decoded alone.
"""

import queue
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from actors.models.engine_holder import EngineHolder
from pipeline.errors import ModelOutOfMemory
from pipeline.protocol import Proposals, ProposeCohort


@dataclass(slots=True, eq=False)
class PendingCall:
    """A call and where its answer goes."""

    cohort: ProposeCohort
    answer: "Future[Proposals]" = field(default_factory=Future)


class ContinuousBatching:
    """Answers `propose` to several threads at once.

    Args:
        holder: of an engine with `begin`, `step` and `abort_all`, or of one with `propose` alone, which then does one
            call at a time.
    """

    def __init__(self, holder: EngineHolder) -> None:
        self.holder = holder
        self.arrivals: queue.SimpleQueue[PendingCall] = queue.SimpleQueue()
        self.waiting: list[PendingCall] = []
        self.under_way: dict[Any, PendingCall] = {}
        self.joins = True
        threading.Thread(target=self._serve, name="policy engine", daemon=True).start()

    def propose(self, cohort: ProposeCohort) -> Proposals:
        """The answer to one call; raises what the engine raised."""
        asked = PendingCall(cohort)
        self.arrivals.put(asked)
        return asked.answer.result()

    def _serve(self) -> None:
        while True:
            if not self.waiting:
                self.waiting.append(self.arrivals.get())
            try:
                with self.holder.engine() as engine:
                    self._decode(engine)
            except Exception as error:
                self._fail(error)

    def _decode(self, engine: Any) -> None:
        """Go on until no call is under way and none waits."""
        decode_on = self._decode_together if self.joins and hasattr(engine, "add_request") else self._decode_alone
        while self.waiting or self.under_way:
            for call, proposals in decode_on(engine):
                self.under_way.pop(call).answer.set_result(proposals)
            while not self.arrivals.empty():
                self.waiting.append(self.arrivals.get())

    def _decode_alone(self, engine: Any) -> list[tuple[Any, Proposals]]:
        asked = self.waiting.pop(0)
        self.under_way[asked] = asked
        return [(asked, engine.propose(asked.cohort))]

    def _decode_together(self, engine: Any) -> list[tuple[Any, Proposals]]:
        try:
            for asked in list(self.waiting):
                self._begin(engine, asked)
            return engine.step()
        except Exception:
            engine.abort_all()
            raise

    def _begin(self, engine: Any, asked: PendingCall) -> None:
        busy = {slot for other in self.under_way.values() for slot in other.cohort.slots_R.tolist()}
        if busy.isdisjoint(asked.cohort.slots_R.tolist()):
            self.waiting.remove(asked)
            self.under_way[asked] = asked
            call = engine.add_request(asked.cohort)
            self.under_way[call] = self.under_way.pop(asked)

    def _fail(self, error: Exception) -> None:
        """Tell the calls under way (all, where it was the loading that failed), or do them again one by one."""
        failed, self.under_way = list(self.under_way.values()), {}
        if isinstance(error, ModelOutOfMemory) and len(failed) > 1:
            self.joins = False
            self.waiting = failed + self.waiting
            return
        if not failed:
            failed, self.waiting = self.waiting, []
        for asked in failed:
            asked.answer.set_exception(error)
