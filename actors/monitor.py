"""Where a run's counters meet: coordinators push their usage here, the driver asks for the sum.

Invariant: a push replaces what its coordinator pushed before, so pushing twice counts once. A coordinator that died
keeps its last figures; its successor has another id.
"""

from functools import reduce
from operator import add

from pipeline.usage import CoordinatorUsage


class Monitor:
    def __init__(self) -> None:
        self.usage_by_coordinator: dict[str, CoordinatorUsage] = {}

    def push(self, coordinator_id: str, usage: CoordinatorUsage) -> None:
        """`usage` is everything the coordinator did since it started."""
        self.usage_by_coordinator[coordinator_id] = usage

    def total(self) -> CoordinatorUsage:
        return reduce(add, self.usage_by_coordinator.values(), CoordinatorUsage())
