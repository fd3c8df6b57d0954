"""What a run cost, as counters that add up: one object per model role, one per coordinator."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from pydantic import computed_field

from pipeline.protocol import CallStats

MOSTS = frozenset({"last_ended_s", "peak_bytes", "expected_peak_bytes"})  # of which the larger counts, not the sum


@dataclass(frozen=True, slots=True)
class RoleUsage:
    """Calls, rows and tokens of one model actor, or of several added up; and its ratios: a role of `_run/metrics.json`.

    Of the busy time, `prefill_s` brought caches up to their prefixes (all of it, for a reward model) and `sampling_s`
    drew tokens; the rest decoded. `actor_s` is the time from the first call's start to the last call's end, of each
    actor; `queue_wait_s` what rows waited before their call was sent, added up; `num_rows_squared` and `row_busy_s` are
    sums over calls of rows² and of rows × seconds. `last_ended_s` is `time.time()` on the model's machine. `peak_bytes`
    is the most that one process ever held (on its GPU if it has one), `expected_peak_bytes` what it holds when all
    slots are full; None where that is not known.
    """

    num_calls: int = 0
    num_rows: int = 0
    num_tokens: int = 0
    busy_s: float = 0.0
    actor_s: float = 0.0
    last_ended_s: float = 0.0
    prefill_s: float = 0.0
    sampling_s: float = 0.0
    queue_wait_s: float = 0.0
    num_rows_squared: int = 0
    row_busy_s: float = 0.0
    peak_bytes: int | None = None
    expected_peak_bytes: int | None = None

    def add(self, stats: CallStats, queue_wait_s: float = 0.0) -> "RoleUsage":
        """The usage of one actor after one more call."""
        rows = len(stats.pushed_tokens_R)
        since_s = self.last_ended_s if self.num_calls else stats.started_s
        return replace(
            self,
            num_calls=self.num_calls + 1,
            num_rows=self.num_rows + rows,
            num_tokens=self.num_tokens + int(stats.pushed_tokens_R.sum()),
            busy_s=self.busy_s + stats.busy_s,
            actor_s=self.actor_s + max(0.0, stats.ended_s - since_s),
            last_ended_s=max(self.last_ended_s, stats.ended_s),
            prefill_s=self.prefill_s + stats.prefill_s,
            sampling_s=self.sampling_s + stats.sampling_s,
            queue_wait_s=self.queue_wait_s + queue_wait_s,
            num_rows_squared=self.num_rows_squared + rows * rows,
            row_busy_s=self.row_busy_s + rows * stats.busy_s,
        )

    def __add__(self, other: "RoleUsage") -> "RoleUsage":
        """The usage of two actors together, or of one actor under two coordinators."""
        names = [field.name for field in fields(self)]
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in names}
        return RoleUsage(**{name: _most(pair) if name in MOSTS else sum(pair) for name, pair in pairs.items()})

    @computed_field  # type: ignore[prop-decorator]
    @property
    def busy_fraction(self) -> float:
        """Share of the actors' time that was spent in calls."""
        return self.busy_s / self.actor_s if self.actor_s > 0 else 0.0

    @computed_field  # type: ignore[prop-decorator]
    @property
    def tokens_per_s(self) -> float:
        """Tokens pushed per second of an actor's time."""
        return self.num_tokens / self.actor_s if self.actor_s > 0 else 0.0

    @computed_field  # type: ignore[prop-decorator]
    @property
    def mean_cohort_size(self) -> float:
        return self.num_rows / self.num_calls if self.num_calls else 0.0

    def call_s(self, num_rows: float) -> float:
        """Seconds of a call of so many rows: a line through what was measured, which never falls as rows are added and
        starts at or above nothing."""
        mean_s, mean_rows = self.busy_s / self.num_calls, self.mean_cohort_size
        spread = self.num_rows_squared / self.num_calls - mean_rows**2
        slope = (
            (self.row_busy_s / self.num_calls - mean_rows * mean_s) / spread if spread > 1e-6 else mean_s / mean_rows
        )
        slope = min(max(slope, 0.0), mean_s / mean_rows)
        return mean_s + slope * (num_rows - mean_rows)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def mean_queue_wait_s(self) -> float:
        """Seconds that a row waited before its call was sent."""
        return self.queue_wait_s / self.num_rows if self.num_rows else 0.0


def _most(values: tuple[Any, Any]) -> Any:
    return max((value for value in values if value is not None), default=None)


@dataclass(frozen=True, slots=True)
class CoordinatorUsage:
    """Progress of one coordinator since it started.

    `num_attempts` counts proposed segments, `num_segments` the kept ones, `num_accepted_by_rule` those of them
    that the rule accepted rather than the fallback. `slot_seconds` integrates occupied slots over time while rows
    were waiting for one, `slot_capacity_seconds` all slots over the same time.
    """

    num_rows_done: int = 0
    num_error_rows: int = 0
    num_segments: int = 0
    num_attempts: int = 0
    num_accepted_by_rule: int = 0
    num_response_tokens: int = 0
    reward_sum: float = 0.0
    slot_seconds: float = 0.0
    slot_capacity_seconds: float = 0.0
    policy: RoleUsage = RoleUsage()
    reward: RoleUsage = RoleUsage()

    @property
    def acceptance_rate(self) -> float:
        """Segments accepted by the rule per segment proposed."""
        return self.num_accepted_by_rule / self.num_attempts if self.num_attempts else 0.0

    @property
    def slot_occupancy(self) -> float | None:
        """Share of slots in use while rows were waiting for one; None when none ever waited."""
        return self.slot_seconds / self.slot_capacity_seconds if self.slot_capacity_seconds else None

    @property
    def mean_reward(self) -> float:
        num_good_rows = self.num_rows_done - self.num_error_rows
        return self.reward_sum / num_good_rows if num_good_rows else 0.0

    def __add__(self, other: "CoordinatorUsage") -> "CoordinatorUsage":
        """The usage of two coordinators together."""
        return CoordinatorUsage(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})


UsageByCell = Mapping[int, CoordinatorUsage]


def total_usage(usages: UsageByCell) -> CoordinatorUsage:
    """All cells together."""
    return sum(usages.values(), CoordinatorUsage())


def added_by_cell(first: UsageByCell, second: UsageByCell) -> UsageByCell:
    """Two passes over the rows, cell by cell."""
    none = CoordinatorUsage()
    return {cell: first.get(cell, none) + second.get(cell, none) for cell in sorted(first.keys() | second.keys())}
