"""Where a run's counters and news meet: coordinators push them here, the driver asks for them.

Invariant: a push replaces what its coordinator pushed before, so pushing twice counts once. A coordinator that died
keeps its last figures; its successor has another id.
"""

from functools import reduce
from operator import add

from pipeline.usage import CoordinatorUsage


class Monitor:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.usage_by_coordinator: dict[str, CoordinatorUsage] = {}

    def push(self, coordinator_id: str, usage: CoordinatorUsage) -> None:
        """`usage` is everything the coordinator did since it started."""
        self.usage_by_coordinator[coordinator_id] = usage

    def total(self) -> CoordinatorUsage:
        return reduce(add, self.usage_by_coordinator.values(), CoordinatorUsage())

    def tell(self, line: str) -> None:
        self.lines.append(line)

    def take_lines(self) -> list[str]:
        """Lines for the person who started the run, each once."""
        lines, self.lines = self.lines, []
        return lines
