"""How a signal ends a job: as an exception in the main thread, so that every `finally` on the way runs."""

import signal
from types import FrameType


class Interrupted(BaseException):
    """A signal asked the job to end; not an Exception, so that nothing on the way takes it for a fault."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number

    @property
    def exit_code(self) -> int:
        return 128 + self.signal_number

    def __str__(self) -> str:
        return f"interrupted by {signal.Signals(self.signal_number).name}"


def raise_on_signals() -> None:
    """Let SIGINT and SIGTERM raise Interrupted."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)


def _interrupt(signal_number: int, frame: FrameType | None) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the way out is not interrupted again; SIGKILL is always safe
    raise Interrupted(signal_number)
