"""How long a model may be silent, and what happens then: it is replaced, and the calls it held go on.

Invariants:
- the clock of a model runs only while a call is with it; an answer to any call, and a replacement that has loaded,
  start it anew, so a call that waits in the mailbox behind another one is not late;
- a model that is loading is not silent;
- a call is never sent twice from here: Ray sends the calls that a killed actor held to its successor.
"""

import asyncio
from collections.abc import Awaitable
from typing import Any, Protocol

from pipeline.errors import ModelError

MAX_REPLACEMENTS = 3  # in a row, with no answer between them: a model that hangs so often will hang again


class ActorSupervisor(Protocol):
    """Watches over one model actor."""

    name: str

    async def is_loading(self) -> bool:
        """Whether the actor is being started, so that no answer can come yet."""
        ...

    async def replace(self) -> None:
        """Kill the actor and wait until its successor has loaded."""
        ...

    def tell(self, line: str) -> None:
        """Let the person who started the run know."""
        ...


class CallTimeout:
    """Waits for one model's answers.

    Args:
        role: "policy" or "reward".
        timeout_s: the longest silence.
        supervisor: replaces a silent model; without one, silence is a ModelError.
    """

    def __init__(self, role: str, timeout_s: float, supervisor: ActorSupervisor | None = None) -> None:
        self.role = role
        self.timeout_s = timeout_s
        self.supervisor = supervisor
        self._num_calls = 0
        self._num_replacements = 0
        self._heard_at_s = 0.0
        self._one_at_a_time = asyncio.Lock()

    async def answer(self, reference: Awaitable[Any]) -> Any:
        """The answer to one call.

        Raises:
            ModelError: the model stayed silent, its replacements too.
        """
        if not self._num_calls:
            self._restart_clock()
        self._num_calls += 1
        future = asyncio.ensure_future(reference)
        try:
            while not (await asyncio.wait([future], timeout=self._seconds_left()))[0]:
                await self._end_silence(future)
            self._num_replacements = 0
            return future.result()
        finally:
            self._restart_clock()
            self._num_calls -= 1
            future.cancel()

    def _restart_clock(self) -> None:
        self._heard_at_s = asyncio.get_running_loop().time()

    def _seconds_left(self) -> float:
        return max(0.0, self._heard_at_s + self.timeout_s - asyncio.get_running_loop().time())

    async def _end_silence(self, future: asyncio.Future[Any]) -> None:
        async with self._one_at_a_time:
            if self._seconds_left():
                return  # another call of this model was answered, or has replaced it
            is_loading = self.supervisor is not None and await self.supervisor.is_loading()
            await asyncio.sleep(0)
            if future.done():
                return  # the answer was here, and it was this loop that was busy
            if self.supervisor is not None and is_loading:
                self.supervisor.tell(f"the {self.role} model {self.supervisor.name} is still being started again")
            else:
                await self._replace()
            self._restart_clock()

    async def _replace(self) -> None:
        silence = f"gave no answer for {self.timeout_s:g} s (coordinator.call_timeout_s)"
        if self.supervisor is None:
            raise ModelError(f"the {self.role} model {silence}")
        if self._num_replacements == MAX_REPLACEMENTS:
            raise ModelError(
                f"the {self.role} model {self.supervisor.name} {silence}, nor did {MAX_REPLACEMENTS} replacements"
            )
        self._num_replacements += 1
        self.supervisor.tell(f"the {self.role} model {self.supervisor.name} {silence}; it is killed and started again")
        await self.supervisor.replace()
