"""The slots of a cell: on which model actors each lives, and who holds it.

Every slot lives on one policy actor and on one reward actor, in runs of consecutive numbers: with 2 policies of 64
slots and 1 reward model, slots 0–63 and 64–127 live on one policy each, and 0–127 on the reward model.
"""

import asyncio
from collections import deque


class SlotPool:
    """Hands out whole sets of slots, so that a row with several lanes never waits while holding some of them.

    Invariant: a row that came first is served first, so that a row with many lanes is not starved. The lanes of one row
    go to one policy actor where that is possible, because lanes copy what they share from each other's cache.

    Args:
        slots_per_actor: slots of each policy actor.
        num_actors: policy actors of the cell.
    """

    def __init__(self, slots_per_actor: int, num_actors: int = 1) -> None:
        self.slots_per_actor = slots_per_actor
        self.num_slots = slots_per_actor * num_actors
        firsts = range(0, self.num_slots, slots_per_actor)
        self.free = [list(range(first + slots_per_actor - 1, first - 1, -1)) for first in firsts]
        self.num_lent = 0
        self.waiters: deque[tuple[int, asyncio.Future[list[int]]]] = deque()
        self.slot_seconds = 0.0
        self.capacity_seconds = 0.0
        self._accounted_until_s = asyncio.get_running_loop().time()

    @property
    def num_free(self) -> int:
        return sum(map(len, self.free))

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

    def borrow(self, beside: int) -> int | None:
        """A slot that nobody waits for, on the actor of slot `beside`, if the rows that hold slots have not borrowed an
        even share yet."""
        free, num_free = self._free_beside(beside), self.num_free
        num_holders = self.num_slots - num_free - self.num_lent
        if self.waiters or not free or num_free + self.num_lent < num_holders:
            return None
        self._account()
        self.num_lent += 1
        return free.pop()

    def give_back(self, slot: int) -> None:
        """The end of `borrow`."""
        self._account()
        self.num_lent -= 1
        self.release([slot])

    def release(self, slots: list[int]) -> None:
        """Give slots back; the next rows in line get them at once."""
        self._account()
        for slot in slots:
            self._free_beside(slot).append(slot)
        self._serve()

    def _free_beside(self, slot: int) -> list[int]:
        return self.free[slot // self.slots_per_actor]

    def _serve(self) -> None:
        while self.waiters and (self.waiters[0][1].done() or self.waiters[0][0] <= self.num_free):
            count, answer = self.waiters.popleft()
            if not answer.done():
                answer.set_result(self._take(count))

    def _take(self, count: int) -> list[int]:
        """Slots of the actor with the most room, and of others when that has not enough."""
        taken: list[int] = []
        while len(taken) < count:
            free = max(self.free, key=len)
            taken += [free.pop() for _ in range(min(count - len(taken), len(free)))]
        return taken

    def _account(self) -> None:
        """Integrate occupancy while the input has not run dry: only then could an empty slot have been filled."""
        now_s = asyncio.get_running_loop().time()
        if self.waiters:
            self.slot_seconds += (now_s - self._accounted_until_s) * (self.num_slots - self.num_free - self.num_lent)
            self.capacity_seconds += (now_s - self._accounted_until_s) * self.num_slots
        self._accounted_until_s = now_s
