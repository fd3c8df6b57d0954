"""Calls to an endpoint of somebody else: how many at once, how fast, how long, and the one place where one is tried
again.

Tried again, after a pause that doubles or that the endpoint names: no connection, no whole answer in time, a status
that may pass, an answer that is none. An endpoint that asks for a pause (429, 503) gets it from all calls. What is left
after `max_tries` is a fault, with the last cause.
"""

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from pipeline.config.called_rewards import LONGEST_PAUSE_S, RemoteLimits

PASSING = frozenset({408, 409, 425, 429, *range(500, 600)})
ResultT = TypeVar("ResultT")


class TryAgain(Exception):
    """An attempt failed in a way that may pass. `pause_s` is what the endpoint asked for; `is_busy` says that it asked
    everybody."""

    def __init__(self, cause: str, pause_s: float | None = None, is_busy: bool = False) -> None:
        super().__init__(cause)
        self.pause_s = pause_s
        self.is_busy = is_busy


class GivenUp(Exception):
    """A call failed for good; the message says why."""


class RemoteCalls:
    """Makes calls within limits; all of them in one event loop.

    Args:
        limits: what the config says.
        num_actors: actors that share the limits evenly.
    """

    def __init__(self, limits: RemoteLimits, num_actors: int) -> None:
        self.limits = limits
        self.width = limits.width(num_actors)
        self.places = asyncio.Semaphore(self.width)
        per_minute = limits.requests_per_minute
        self.interval_s = 0.0 if per_minute is None else 60 * num_actors / per_minute
        self.next_s = 0.0  # when the next request may start, by the loop's clock

    async def call(self, attempt: Callable[[], Awaitable[ResultT]]) -> ResultT:
        """What `attempt` gives, tried `max_tries` times; raises GivenUp."""
        async with self.places:
            for number in range(1, self.limits.max_tries + 1):
                await self._turn()
                try:
                    async with asyncio.timeout(self.limits.timeout_s):
                        return await attempt()
                except TimeoutError:
                    failure = TryAgain(f"no whole answer in {self.limits.timeout_s:g} s (reward.timeout_s)")
                except TryAgain as error:
                    failure = error
                if number < self.limits.max_tries:
                    await asyncio.sleep(self._pause_s(failure, number))
        raise GivenUp(f"{failure}, after {self.limits.max_tries} tries")

    async def _turn(self) -> None:
        """Wait until a request may start."""
        now_s = asyncio.get_running_loop().time()
        starts_s = max(now_s, self.next_s)
        self.next_s = starts_s + self.interval_s
        await asyncio.sleep(starts_s - now_s)

    def _pause_s(self, failure: TryAgain, number: int) -> float:
        """Seconds until the next try; one that everybody must keep moves the others' turns too."""
        doubled_s = self.limits.first_pause_s * 2 ** (number - 1) * random.uniform(0.75, 1.25)
        pause_s = min(LONGEST_PAUSE_S, doubled_s if failure.pause_s is None else failure.pause_s)
        if failure.is_busy:
            self.next_s = max(self.next_s, asyncio.get_running_loop().time() + pause_s)
        return pause_s


class BackgroundLoop:
    """An event loop in a thread of its own, for calls that come from other threads."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="remote calls", daemon=True)
        self.thread.start()

    def run(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Do the work there and wait for its end here."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def close(self) -> None:
        """End the loop and its thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


def retry_after_s(headers: Any) -> float | None:
    """What an answer's headers ask to wait, where it is a number of seconds."""
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers.get(name, "")) * unit_s)
        except ValueError:
            continue
    return None
