"""Where a run's counters and news meet: coordinators push them here, the driver asks for them.

Invariant: a push replaces what its coordinator pushed before, so pushing twice counts once. A coordinator that died
keeps its last figures; its successor has another id. A push is also a sign of life.
"""

from collections import Counter
from dataclasses import dataclass

from actors.batch.cell_claims import CellClaims
from pipeline.runs.usage import CoordinatorUsage


@dataclass(frozen=True, slots=True)
class Process:
    """The process of a coordinator: which actor it is of, and which of that actor's lives."""

    actor_id: str
    pid: int


class Monitor:
    """One per pass over the rows.

    Args:
        node_ids: the node of every cell.
    """

    def __init__(self, node_ids: tuple[str, ...] = ("",)) -> None:
        self.lines: list[str] = []
        self.cells = CellClaims(node_ids)
        self.usage_by_coordinator: dict[tuple[int, str], CoordinatorUsage] = {}
        self.num_heartbeats: Counter[Process] = Counter()

    def claim_cell(self, process: Process, node: str) -> int:
        """The cell that a coordinator is to work with; see `actors.batch.cell_claims`."""
        return self.cells.claim(process.actor_id, node)

    def push(self, cell: int, coordinator_id: str, process: Process, usage: CoordinatorUsage) -> None:
        """`usage` is everything the coordinator of a cell did since it started."""
        self.usage_by_coordinator[cell, coordinator_id] = usage
        self.cells.confirm(process.actor_id, cell)
        self.heartbeat(process)

    def heartbeat(self, process: Process) -> None:
        self.num_heartbeats[process] += 1

    def heartbeats(self) -> dict[Process, int]:
        """How often each process was heard of, the dead ones included; counted anew after a restart of this actor."""
        return dict(self.num_heartbeats)

    def total(self) -> CoordinatorUsage:
        return sum(self.usage_by_coordinator.values(), CoordinatorUsage())

    def by_cell(self) -> dict[int, CoordinatorUsage]:
        """The same cell by cell, of those that did anything."""
        usages: dict[int, CoordinatorUsage] = {}
        for (cell, _), usage in sorted(self.usage_by_coordinator.items()):
            usages[cell] = usages.get(cell, CoordinatorUsage()) + usage
        return usages

    def report(self, line: str) -> None:
        self.lines.append(line)

    def take_lines(self) -> list[str]:
        """Lines for the person who started the run, each once."""
        lines, self.lines = self.lines, []
        return lines
