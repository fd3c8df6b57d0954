"""What a run cost, as counters that add up: one object per model role, one per coordinator."""

from dataclasses import dataclass, fields, replace

from pipeline.records import CallStats


@dataclass(frozen=True, slots=True)
class RoleUsage:
    """Calls, rows and tokens of one model role. Instants are `time.time()` seconds on the model's machine."""

    num_calls: int = 0
    num_rows: int = 0
    num_tokens: int = 0
    busy_s: float = 0.0
    first_started_s: float = 0.0
    last_ended_s: float = 0.0
    prefill_s: float = 0.0
    sampling_s: float = 0.0

    def add(self, stats: CallStats) -> "RoleUsage":
        """The usage after one more call."""
        return RoleUsage(
            num_calls=self.num_calls + 1,
            num_rows=self.num_rows + len(stats.pushed_tokens_R),
            num_tokens=self.num_tokens + int(stats.pushed_tokens_R.sum()),
            busy_s=self.busy_s + stats.busy_s,
            prefill_s=self.prefill_s + stats.prefill_s,
            sampling_s=self.sampling_s + stats.sampling_s,
            first_started_s=min(self.first_started_s or stats.started_s, stats.started_s),
            last_ended_s=max(self.last_ended_s, stats.ended_s),
        )

    def __add__(self, other: "RoleUsage") -> "RoleUsage":
        starts = [usage.first_started_s for usage in (self, other) if usage.num_calls]
        return RoleUsage(
            num_calls=self.num_calls + other.num_calls,
            num_rows=self.num_rows + other.num_rows,
            num_tokens=self.num_tokens + other.num_tokens,
            busy_s=self.busy_s + other.busy_s,
            prefill_s=self.prefill_s + other.prefill_s,
            sampling_s=self.sampling_s + other.sampling_s,
            first_started_s=min(starts, default=0.0),
            last_ended_s=max(self.last_ended_s, other.last_ended_s),
        )

    @property
    def busy_fraction(self) -> float:
        """Share of the time from the first call's start to the last call's end that was spent in calls."""
        span_s = self.last_ended_s - self.first_started_s
        return self.busy_s / span_s if span_s > 0 else 0.0

    @property
    def mean_cohort_size(self) -> float:
        return self.num_rows / self.num_calls if self.num_calls else 0.0


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

    def with_call(self, role: str, stats: CallStats) -> "CoordinatorUsage":
        """The usage after one more call of `role`, "policy" or "reward"."""
        return replace(self, **{role: getattr(self, role).add(stats)})
