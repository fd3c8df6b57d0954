"""Who works on a run: `_run/lease.json`, which the process that does rewrites every few seconds.

Invariants: a lease that changes belongs to a start that is alive, whatever the clocks say, so a second start watches it
by its own clock and trusts no time that is written there. A lease that stays as it is for STALE_S, or whose process is
gone from this machine, is taken over. A start that was stopped for so long finds another's lease in the place of its
own: then it has lost the run and must write nothing more.
"""

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from pipeline.errors import OutputError
from pipeline.runs.manifest import now
from pipeline.storage import Location

HEARTBEAT_S = 3.0
STALE_S = 10 * HEARTBEAT_S
LOOK_S = 1.0
Report = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Holder:
    """A start that works on a run. `machine` is this boot of this machine and its numbering of processes; `born` is
    when the process began, in ticks since that boot, since others may get its number. Empty or 0: not known here."""

    start: str = field(default_factory=lambda: uuid.uuid4().hex)
    host: str = field(default_factory=socket.gethostname)
    process: int = field(default_factory=os.getpid)
    machine: str = field(default_factory=lambda: _machine())
    born: int = field(default_factory=lambda: _birth(os.getpid()) or 0)
    started: str = field(default_factory=now)
    heartbeat: str = ""
    num_heartbeats: int = 0

    @property
    def is_gone(self) -> bool:
        """Whether its process has surely ended; one of another machine is never known to have."""
        return bool(self.machine) and self.machine == _machine() and not _is_alive(self.process, self.born)

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}, started {self.started}"


class Lease:
    """One start's claim to a run.

    Args:
        file: where it is written; its directory must exist.
        report: told when another start's lease has to be watched.
        wait: called with seconds, to wait.
    """

    def __init__(self, file: Location, report: Report, wait: Callable[[float], object] = time.sleep) -> None:
        self.holder = Holder()
        self.file = replace(file, writer=self.holder.start)
        self.report = report
        self.wait = wait
        self._lock = threading.Lock()
        self._lost_to: str | None = None

    def acquire(self) -> None:
        """Write it, once nobody else holds the run.

        Raises:
            OutputError: another start is alive.
        """
        found = self._read()
        if found is None and not self.file.create_text(self._next()):
            found = self._read()
        if found is not None:
            self._watch(found)
            self.file.write_text(self._next())
        self.renew()  # of two that took over at the same moment, one finds the other's
        self.check()

    def renew(self) -> None:
        """One heartbeat, unless another start's lease stands there."""
        with self._lock:
            found = self._read()
            if not self._is_ours(found):
                self._lost_to = "another start, which has ended" if found is None else _named(found)
            if self._lost_to is None:
                self.file.write_text(self._next())

    def check(self) -> None:
        """Raises OutputError when the last heartbeat found another start's lease."""
        if self._lost_to is not None:
            raise OutputError(f"{self._run!r} was taken over by {self._lost_to}; this start has lost it")

    def release(self) -> None:
        """Let the next start begin at once."""
        with self._lock:
            if self._is_ours(self._read()):
                self.file.filesystem.delete_file(self.file.path)

    def _watch(self, found: str) -> None:
        """Return when nobody holds what was found."""
        holder = _parsed(found)
        for second in range(round(STALE_S / LOOK_S)):
            if holder is not None and holder.is_gone:
                return
            if second == 0:
                self.report(f"{self._run} is held by {_named(found)}; watching it for {STALE_S:g} s at most")
            self.wait(LOOK_S)
            latest = self._read()
            if latest is None:
                return
            if latest != found:
                raise OutputError(f"{self._run!r} is being worked on by {_named(latest)}; wait for its end, or end it")

    @property
    def _run(self) -> str:
        return str(self.file.parent.parent)

    def _next(self) -> str:
        self.holder = replace(self.holder, heartbeat=now(), num_heartbeats=self.holder.num_heartbeats + 1)
        return TypeAdapter(Holder).dump_json(self.holder, indent=2).decode() + "\n"

    def _read(self) -> str | None:
        try:
            return self.file.read_text()
        except FileNotFoundError:
            return None

    def _is_ours(self, found: str | None) -> bool:
        holder = None if found is None else _parsed(found)
        return holder is not None and holder.start == self.holder.start


@contextmanager
def held_lease(file: Location, report: Report) -> Iterator[Lease]:
    """A lease with its heartbeats until the block ends.

    Raises:
        OutputError: another start is alive.
    """
    lease, has_ended = Lease(file, report), threading.Event()
    lease.acquire()

    def beat() -> None:
        while not has_ended.wait(HEARTBEAT_S):
            with suppress(OSError, OutputError):  # storage may be away for a while; the next heartbeat tells
                lease.renew()

    threading.Thread(target=beat, name="lease", daemon=True).start()
    try:
        yield lease
    finally:
        has_ended.set()
        with suppress(OSError):  # then it goes stale; what ended the block is the error to tell
            lease.release()


def _parsed(text: str) -> Holder | None:
    try:
        return TypeAdapter(Holder).validate_json(text)
    except ValidationError:
        return None


def _named(text: str) -> str:
    return str(_parsed(text) or "a start that left no readable lease")


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


def _is_alive(process: int, born: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return _birth(process) == born


def _birth(process: int) -> int | None:
    """When the process began, in ticks since the machine's boot; None for one that has ended or is none."""
    try:
        state, *numbers = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else int(numbers[18])
