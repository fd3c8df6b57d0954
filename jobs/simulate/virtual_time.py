"""An event loop whose clock jumps to the next timer when nothing else is left to do, and models that run on it.

Invariants: work of coroutines takes no time on this clock, only timers do; a model computes one call at a time, in the
order in which calls were sent, as an actor does.
"""

import asyncio
import selectors
from collections.abc import Callable
from typing import Any

REAL_WAIT_S = 0.05


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Args:
    may_jump_to: says whether time may jump to an instant now; while it may not, the loop waits for real events.
    """

    def __init__(self, may_jump_to: Callable[[float], bool] = lambda instant_s: True) -> None:
        self.now_s = 0.0
        self.may_jump_to = may_jump_to
        super().__init__(_JumpSelector(self))

    def time(self) -> float:
        return self.now_s


class _JumpSelector(selectors.DefaultSelector):
    """Instead of sleeping until the next timer it moves the loop's clock there."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self.loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if events or (timeout is not None and timeout <= 0):
            return events
        target_s = self.loop.now_s + (float("inf") if timeout is None else timeout)
        if not self.loop.may_jump_to(target_s) or timeout is None:
            return super().select(REAL_WAIT_S)
        self.loop.now_s = target_s
        return []


class ModelClock:
    """The clock of one fake model; see `actors.engines.fakes.Clock`."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def time(self) -> float:
        return self.now_s

    def wait_until(self, instant_s: float) -> None:
        self.now_s = max(self.now_s, instant_s)


class VirtualModel:
    """A handle like a model actor's, over a fake engine on a virtual clock.

    Args:
        model: what answers calls: a FakePolicy, or a reward over a FakeReward.
        engine: the fake whose clock they keep.
        hop_s: what a call spends on its way to the model and back, together.
    """

    def __init__(self, model: Any, engine: Any, hop_s: float) -> None:
        self.engine = engine
        self.engine.clock = ModelClock()
        self.hop_s = hop_s
        for name in ("propose", "score"):
            if hasattr(model, name):
                setattr(self, name, _VirtualMethod(self, getattr(model, name)))


class _VirtualMethod:
    def __init__(self, model: VirtualModel, method: Callable[[Any], Any]) -> None:
        self.model = model
        self.method = method

    def remote(self, cohort: Any) -> "asyncio.Future[Any]":
        loop, clock = asyncio.get_running_loop(), self.model.engine.clock
        clock.wait_until(loop.time() + self.model.hop_s / 2)
        answer, future = self.method(cohort), loop.create_future()
        loop.call_at(clock.now_s + self.model.hop_s / 2, future.set_result, answer)
        return future
