"""Where a run's counters and news meet: coordinators push them here, the driver asks for them.

Invariant: a push replaces what its coordinator pushed before, so pushing twice counts once. A coordinator that died
keeps its last figures; its successor has another id. A push is also a sign of life.
"""

import time
from dataclasses import dataclass
from functools import reduce
from operator import add

from pipeline.usage import CoordinatorUsage


@dataclass(frozen=True, slots=True)
class Process:
    """The process of a coordinator: which actor it is of, and which of that actor's lives."""

    actor_id: str
    pid: int


class Monitor:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.usage_by_coordinator: dict[str, CoordinatorUsage] = {}
        self.heard_at_s: dict[Process, float] = {}

    def push(self, coordinator_id: str, process: Process, usage: CoordinatorUsage) -> None:
        """`usage` is everything the coordinator did since it started."""
        self.usage_by_coordinator[coordinator_id] = usage
        self.heard_at_s[process] = time.monotonic()

    def take_silent(self, timeout_s: float) -> list[Process]:
        """Processes not heard of for so long, each once; those that died are among them."""
        now_s = time.monotonic()
        silent = [process for process, heard_s in self.heard_at_s.items() if now_s - heard_s > timeout_s]
        for process in silent:
            del self.heard_at_s[process]
        return silent

    def total(self) -> CoordinatorUsage:
        return reduce(add, self.usage_by_coordinator.values(), CoordinatorUsage())

    def tell(self, line: str) -> None:
        self.lines.append(line)

    def take_lines(self) -> list[str]:
        """Lines for the person who started the run, each once."""
        lines, self.lines = self.lines, []
        return lines
