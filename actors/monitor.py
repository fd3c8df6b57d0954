"""Where a run's counters and news meet: coordinators push them here, the driver asks for them.

Invariant: a push replaces what its coordinator pushed before, so pushing twice counts once. A coordinator that died
keeps its last figures; its successor has another id. A push is also a sign of life.
"""

from collections import Counter
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
        self.num_signs_of_life: Counter[Process] = Counter()

    def push(self, coordinator_id: str, process: Process, usage: CoordinatorUsage) -> None:
        """`usage` is everything the coordinator did since it started."""
        self.usage_by_coordinator[coordinator_id] = usage
        self.hear(process)

    def hear(self, process: Process) -> None:
        self.num_signs_of_life[process] += 1

    def signs_of_life(self) -> dict[Process, int]:
        """How often each process was heard of, the dead ones included; counted anew after a restart of this actor."""
        return dict(self.num_signs_of_life)

    def total(self) -> CoordinatorUsage:
        return reduce(add, self.usage_by_coordinator.values(), CoordinatorUsage())

    def tell(self, line: str) -> None:
        self.lines.append(line)

    def take_lines(self) -> list[str]:
        """Lines for the person who started the run, each once."""
        lines, self.lines = self.lines, []
        return lines
