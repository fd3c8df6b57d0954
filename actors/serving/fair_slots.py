"""Which client's answer is next to get slots, before the coordinator deals them out in order of arrival.

Invariants: a client holds at most `share` of the slots that others leave it, or one answer, so that who comes next
finds a free one; among clients that wait, the one that holds least is next, and one whose answer needs many slots is
not overtaken while they come free.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class FairSlots:
    """All slots of a coordinator, by client.

    Args:
        num_slots: how many there are.
        share: in (0, 1]; at 1 one client may hold them all.
    """

    def __init__(self, num_slots: int, share: float) -> None:
        self.num_slots = num_slots
        self.share = share
        self.num_held: Counter[str] = Counter()
        self.waiting: dict[str, deque[tuple[int, asyncio.Future[None]]]] = {}

    @property
    def num_waiting(self) -> int:
        return sum(map(len, self.waiting.values()))

    @asynccontextmanager
    async def held(self, client: str, count: int) -> AsyncIterator[None]:
        """Wait for `count` slots and hold them while the block lasts."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.setdefault(client, deque()).append((count, turn))
        self._serve()
        try:
            await turn
            yield
        finally:
            if turn.done() and not turn.cancelled():
                self.num_held[client] -= count
                if not self.num_held[client]:
                    del self.num_held[client]
            self._serve()

    def _serve(self) -> None:
        """Give every turn that can be given now."""
        while (client := self._next()) is not None:
            count, turn = self.waiting[client][0]
            if count > self.num_slots - self.num_held.total():
                return  # it is next, and waits until there are so many
            self.waiting[client].popleft()
            self.num_held[client] += count
            turn.set_result(None)

    def _next(self) -> str | None:
        """The client that holds least of those that wait and may have more; the first to come among equals."""
        for client in list(self.waiting):
            while self.waiting[client] and self.waiting[client][0][1].done():
                self.waiting[client].popleft()  # given up
            if not self.waiting[client]:
                del self.waiting[client]
        allowed = [client for client, queue in self.waiting.items() if self._may_hold(client, queue[0][0])]
        return min(allowed, key=lambda client: self.num_held[client], default=None)

    def _may_hold(self, client: str, count: int) -> bool:
        own = self.num_held[client]
        left_by_others = self.num_slots - self.num_held.total() + own
        return own == 0 or own + count <= self.share * left_by_others
