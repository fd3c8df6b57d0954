"""How many answers are under way, whose they are, and when somebody who is refused should come again.

Invariants: a client that has less than its even share of the room finds room, whatever others have under way; of those
who are refused, each is told a later moment than the one before, since places come free one after the other.
"""

import math
import time
from collections import Counter, deque
from collections.abc import Callable

from actors.serving.api_errors import ApiError

NUM_ENDS = 64  # answers whose ends tell the rate
STOPPING_RETRY_S = 5


class Admission:
    """The room for answers under way, those that wait for slots included.

    Args:
        limit: answers under way at once; clients below their share are let in beyond it, up to twice as many.
        longest_wait_s: what nobody is told to exceed.
        clock: seconds, for tests.
    """

    def __init__(self, limit: int, longest_wait_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self.longest_wait_s = longest_wait_s
        self.clock = clock
        self.is_stopping = False
        self.num_by_client: Counter[str] = Counter()
        self._ends_s: deque[float] = deque(maxlen=NUM_ENDS)
        self._busy_since_s = 0.0
        self._promised_s = 0.0

    @property
    def num_under_way(self) -> int:
        return self.num_by_client.total()

    def enter(self, client: str, count: int) -> None:
        """Raises ApiError 429 where there is no room, 503 where the server stops."""
        if self.is_stopping:
            raise stopping()
        num, own = self.num_under_way, self.num_by_client[client]
        share = self.limit / len(self.num_by_client.keys() | {client})
        if num + count > (self.limit if own + count > share else 2 * self.limit):
            raise ApiError(
                429,
                f"{num} answers are under way, {own} of them yours, of at most {self.limit}; try again later",
                code="rate_limit_exceeded",
                headers={"Retry-After": str(self.retry_after_s(count))},
            )
        if not num:
            self._ends_s.clear()
            self._busy_since_s = self.clock()
        self.num_by_client[client] += count

    def leave(self, client: str, count: int) -> None:
        """The end of `enter`."""
        self._ends_s.extend([self.clock()] * count)
        self.num_by_client[client] -= count
        if not self.num_by_client[client]:
            del self.num_by_client[client]

    def retry_after_s(self, count: int) -> int:
        """Seconds until so many places should have come free for one more who asks, at the rate at which answers end;
        before any has ended, as long as the server is busy now."""
        now_s = self.clock()
        busy_s = max(now_s - self._busy_since_s, 1.0)
        seconds_each = busy_s / len(self._ends_s) if self._ends_s else busy_s
        if len(self._ends_s) == NUM_ENDS:
            seconds_each = (now_s - self._ends_s[0]) / NUM_ENDS
        self._promised_s = min(max(self._promised_s, now_s) + count * seconds_each, now_s + self.longest_wait_s)
        return max(1, math.ceil(self._promised_s - now_s))


def stopping() -> ApiError:
    """For requests that come, or are cut off, while the server stops."""
    return ApiError(
        503, "the server is stopping; try again", None, "server_stopping", {"Retry-After": str(STOPPING_RETRY_S)}
    )
