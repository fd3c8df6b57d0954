"""A coordinator's figures as Prometheus metrics, while it works; docs/cluster.md lists them.

Ray exports them as `ray_<name>` at every node's /metrics, with the tags `cell` and `role`. All but the gauges count
from the start of the coordinator, so that a rate over any window gives a share, a mean or a speed.
"""

from collections.abc import Mapping
from typing import Any

from ray.util.metrics import Counter, Gauge

from actors.engines.backends import Role
from pipeline.runs.usage import CoordinatorUsage, RoleUsage

CELL_COUNTERS = {
    "num_rows_done": ("stars_rows", "rows done, error rows included"),
    "num_error_rows": ("stars_error_rows", "error rows"),
    "num_response_tokens": ("stars_response_tokens", "tokens of finished responses"),
    "num_attempts": ("stars_attempts", "segments proposed for finished responses"),
    "num_segments": ("stars_segments", "segments kept in finished responses"),
}
ROLE_COUNTERS = {
    "num_calls": ("stars_model_calls", "model calls"),
    "num_rows": ("stars_model_rows", "rows of model calls; over calls: the cohort size"),
    "num_tokens": ("stars_model_tokens", "tokens pushed through the models"),
    "busy_s": ("stars_model_busy_seconds", "seconds in model calls; over time and actors: the busy share"),
    "queue_wait_s": ("stars_model_queue_wait_seconds", "seconds that rows waited for their call; over rows: the wait"),
}


class LiveMetrics:
    """Exports one cell's usage.

    Args:
        cell: its number.
        num_actors: model actors by role.
    """

    def __init__(self, cell: int, num_actors: Mapping[Role, int]) -> None:
        self.cell = str(cell)
        self.before = CoordinatorUsage()
        self.cell_counters = _counters(CELL_COUNTERS, ("cell",))
        self.role_counters = _counters(ROLE_COUNTERS, ("cell", "role"))
        self.occupancy = Gauge("stars_slot_occupancy", "share of slots in use while rows waited for one", ("cell",))
        self.num_actors = num_actors
        self.actors = Gauge("stars_model_actors", "model actors", ("cell", "role"))

    def update(self, usage: CoordinatorUsage) -> None:
        """Export what was added since the last call."""
        _add(self.cell_counters, self.before, usage, {"cell": self.cell})
        for role, count in self.num_actors.items():
            tags = {"cell": self.cell, "role": role}
            self.actors.set(count, tags)  # each time: Ray forgets a gauge that is not set again
            _add(self.role_counters, getattr(self.before, role), getattr(usage, role), tags)
        if usage.slot_occupancy is not None:
            self.occupancy.set(usage.slot_occupancy, {"cell": self.cell})
        self.before = usage


def _counters(names: dict[str, tuple[str, str]], tags: tuple[str, ...]) -> dict[str, Counter]:
    return {field: Counter(f"{name}_total", description, tags) for field, (name, description) in names.items()}


def _add(
    counters: dict[str, Counter],
    before: CoordinatorUsage | RoleUsage,
    now: CoordinatorUsage | RoleUsage,
    tags: dict[str, str],
) -> None:
    for field, counter in counters.items():
        increase: Any = getattr(now, field) - getattr(before, field)
        if increase > 0:
            counter.inc(increase, tags)
