"""The one rule for a model call that gets no answer: the model is started again, and the call is sent again.

    silent for `call_timeout_s`   the model is killed; after MAX_DEATHS silences in a row the run fails
    died                          its calls are sent again, one at a time; after MAX_DEATHS deaths in a row the call is
                                  halved, and a row that kills the model alone is an error row (`cohorts.CohortQueue`)

Invariants:
- the clock of a model runs only while a call is with it; an answer to any call, and a successor that has loaded, start
  it anew, so a call that waits in the mailbox behind another one is not late;
- a model that is loading is not silent;
- a call that died is sent again by the queue it came from and by nobody else.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from pipeline.errors import ModelDied, ModelError
from pipeline.protocol import MAX_DEATHS


class ActorSupervisor(Protocol):
    """Watches over one model actor."""

    name: str

    def is_death(self, error: Exception) -> bool:
        """Whether a call failed because the actor's process ended."""
        ...

    async def is_loading(self) -> bool:
        """Whether the actor is being started, so that no answer can come yet."""
        ...

    async def wait_until_loaded(self) -> None:
        """Wait for the successor of an actor that died; raises ModelError where none can be started."""
        ...

    async def kill(self) -> None:
        """End the actor's process, so that its calls fail and a successor is started."""
        ...

    def report(self, line: str) -> None:
        """Let the person who started the run know."""
        ...


class ModelCalls:
    """Sends calls to one model and waits for its answers.

    Args:
        role: "policy" or "reward".
        timeout_s: the longest silence.
        supervisor: starts the model again; without one, silence is a ModelError and a death is the call's own error.
    """

    def __init__(self, role: str, timeout_s: float, supervisor: ActorSupervisor | None = None) -> None:
        self.role = role
        self.timeout_s = timeout_s
        self.supervisor = supervisor
        self._num_calls = 0
        self._num_silences = 0
        self._heard_at_s = 0.0
        self._is_down = False
        self._one_at_a_time = asyncio.Lock()

    async def answer(self, send: Callable[[], Awaitable[Any]]) -> Any:
        """The answer to one call, which `send` sends.

        Raises:
            ModelDied: the model died under the call; send it again.
            ModelError: the model stayed silent, its successors too, or it cannot be started again.
        """
        if not self._num_calls:
            self._restart_clock()
        self._num_calls += 1
        call = asyncio.ensure_future(self._sent(send))
        try:
            while not (await asyncio.wait([call], timeout=self._seconds_left()))[0]:
                await self._end_silence(call)
            answer = call.result()
            self._num_silences = 0
            return answer
        finally:
            self._restart_clock()
            self._num_calls -= 1
            call.cancel()

    async def _sent(self, send: Callable[[], Awaitable[Any]]) -> Any:
        if self._is_down and self.supervisor is not None:
            await self.supervisor.wait_until_loaded()
            self._is_down = False
            self._restart_clock()
        try:
            return await send()
        except Exception as error:
            if self.supervisor is None or not self.supervisor.is_death(error):
                raise
            self._is_down = True
            raise ModelDied(f"the {self.role} model {self.supervisor.name} died") from error

    def _restart_clock(self) -> None:
        self._heard_at_s = asyncio.get_running_loop().time()

    def _seconds_left(self) -> float:
        return max(0.0, self._heard_at_s + self.timeout_s - asyncio.get_running_loop().time())

    async def _end_silence(self, call: asyncio.Future[Any]) -> None:
        async with self._one_at_a_time:
            if self._seconds_left():
                return  # another call of this model was answered, or has ended the silence
            is_loading = self.supervisor is not None and await self.supervisor.is_loading()
            await asyncio.sleep(0)
            if call.done():
                return  # the answer was here, and it was this loop that was busy
            if self.supervisor is not None and is_loading:
                self.supervisor.report(f"the {self.role} model {self.supervisor.name} is still being started again")
            else:
                await self._kill()
            self._restart_clock()

    async def _kill(self) -> None:
        silence = f"gave no answer for {self.timeout_s:g} s (coordinator.call_timeout_s)"
        if self.supervisor is None:
            raise ModelError(f"the {self.role} model {silence}")
        name = f"the {self.role} model {self.supervisor.name}"
        if self._num_silences == MAX_DEATHS:
            raise ModelError(f"{name} {silence}, nor did {MAX_DEATHS} successors")
        self._num_silences += 1
        self.supervisor.report(f"{name} {silence}; it is killed and started again")
        await self.supervisor.kill()
