"""Slots of the model caches, handed out first come, first served."""

import asyncio
import time
from collections import deque


class SlotPool:
    """Hands out whole sets of slots, so that a row with several lanes never waits while holding some of them.

    Invariant: a row that came first is served first, so that a row with many lanes is not starved.
    """

    def __init__(self, num_slots: int) -> None:
        self.num_slots = num_slots
        self.free = list(range(num_slots - 1, -1, -1))
        self.num_lent = 0
        self.waiters: deque[tuple[int, asyncio.Future[list[int]]]] = deque()
        self.slot_seconds = 0.0
        self.capacity_seconds = 0.0
        self._accounted_until_s = time.monotonic()

    async def acquire(self, count: int) -> list[int]:
        """Wait for `count` slots at once. Who is cancelled while waiting holds none and stands in nobody's way."""
        answer: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        self._account()
        self.waiters.append((count, answer))
        self._serve()
        try:
            return await answer
        except asyncio.CancelledError:
            self.release(answer.result() if answer.done() and not answer.cancelled() else [])
            raise

    def borrow(self) -> int | None:
        """A slot that nobody waits for, if the rows that hold slots have not borrowed an even share yet."""
        num_holders = self.num_slots - len(self.free) - self.num_lent
        if self.waiters or not self.free or len(self.free) + self.num_lent < num_holders:
            return None
        self._account()
        self.num_lent += 1
        return self.free.pop()

    def give_back(self, slot: int) -> None:
        """The end of `borrow`."""
        self._account()
        self.num_lent -= 1
        self.release([slot])

    def release(self, slots: list[int]) -> None:
        """Give slots back; the next rows in line get them at once."""
        self._account()
        self.free += slots
        self._serve()

    def _serve(self) -> None:
        while self.waiters and (self.waiters[0][1].done() or self.waiters[0][0] <= len(self.free)):
            count, answer = self.waiters.popleft()
            if not answer.done():
                answer.set_result([self.free.pop() for _ in range(count)])

    def _account(self) -> None:
        """Integrate occupancy while the input has not run dry: only then could an empty slot have been filled."""
        now_s = time.monotonic()
        if self.waiters:
            self.slot_seconds += (now_s - self._accounted_until_s) * (self.num_slots - len(self.free) - self.num_lent)
            self.capacity_seconds += (now_s - self._accounted_until_s) * self.num_slots
        self._accounted_until_s = now_s
