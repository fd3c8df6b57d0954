"""What a run did, measured on its own output and on its models' counters; `_run/metrics.json` is exactly this.

Totals come from the output files, so they hold across restarts; model figures cover the last start only.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from pipeline.config.decoding import Decoding
from pipeline.dataset.parts import part_files
from pipeline.runs.advice import Advice, advise
from pipeline.runs.usage import RoleUsage, UsageByCell, total_usage
from pipeline.storage import Location

SUMMED = ("num_prompt_tokens", "num_response_tokens", "num_policy_tokens", "num_reward_tokens")


@dataclass(frozen=True, slots=True)
class OutputTotals:
    """Counts over one stage's output. Attempts are proposed segments; vanilla and best-of-n record none."""

    num_rows: int
    num_error_rows: int
    error_rows_by_type: dict[str, int]
    num_prompt_tokens: int
    num_response_tokens: int
    num_policy_tokens: int
    num_reward_tokens: int
    num_segments: int
    num_attempts: int
    num_fallbacks: int
    num_stopped: int
    reward_sum: float

    @property
    def num_good_rows(self) -> int:
        return self.num_rows - self.num_error_rows


@dataclass(frozen=True, slots=True)
class RoleMetrics:
    """One role's share of the run. Of its busy time, `prefill_s` brought caches up to their prefixes (all of it, for a
    reward model) and `sampling_s` drew tokens; the rest decoded. `busy_fraction` and `tokens_per_s` are over the time
    from an actor's first call to its last one's end, of all its actors; `mean_queue_wait_s` is what a row waited before
    its call was sent. `peak_bytes` is the most that one process ever held (on its GPU if it has one),
    `expected_peak_bytes` what it holds when all slots are full; null where that is not known."""

    num_calls: int
    num_rows: int
    num_tokens: int
    busy_s: float
    prefill_s: float
    sampling_s: float
    busy_fraction: float
    mean_cohort_size: float
    tokens_per_s: float
    mean_queue_wait_s: float
    peak_bytes: int | None = None
    expected_peak_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class CellMetrics:
    """One cell's share of a stage; peaks are known by role only."""

    cell: int
    num_rows_done: int
    slot_occupancy: float | None
    policy: RoleMetrics
    reward: RoleMetrics


@dataclass(frozen=True, slots=True)
class StageMetrics:
    """One stage. Rates are null where nothing was counted; `wall_s` and rates per second cover the last start."""

    strategy: str
    totals: OutputTotals
    mean_reward: float | None
    acceptance_rate: float | None
    fallback_rate: float | None
    response_tokens_per_row: float | None
    policy_tokens_per_row: float | None
    reward_tokens_per_row: float | None
    wall_s: float
    num_rows_this_start: int
    rows_per_s: float
    response_tokens_per_s: float
    slot_occupancy: float | None
    policy: RoleMetrics
    reward: RoleMetrics
    cells: tuple[CellMetrics, ...]
    advice: Advice | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Aligned against vanilla on the same prompts, where both have a response. A tie counts half."""

    num_prompts: int
    mean_reward: float
    baseline_mean_reward: float
    win_rate: float | None
    win_rate_standard_error: float | None


@dataclass(frozen=True, slots=True)
class RunMetrics:
    aligned: StageMetrics
    baseline: StageMetrics | None
    comparison: Comparison | None
    wall_s: float

    def save(self, location: Location) -> None:
        location.write_text(TypeAdapter(RunMetrics).dump_json(self, indent=2).decode() + "\n")

    @classmethod
    def load(cls, location: Location) -> "RunMetrics":
        return TypeAdapter(cls).validate_json(location.read_text())


def measure_stage(config: Decoding, parts: Location, usages: UsageByCell, wall_s: float) -> StageMetrics:
    """Read the stage's output once and put its figures beside the models' counters."""
    totals, usage = measure_output(parts), total_usage(usages)
    good = totals.num_good_rows
    return StageMetrics(
        strategy=config.strategy.name,
        totals=totals,
        mean_reward=_ratio(totals.reward_sum, good),
        acceptance_rate=_ratio(totals.num_segments - totals.num_fallbacks, totals.num_attempts),
        fallback_rate=_ratio(totals.num_fallbacks, totals.num_segments),
        response_tokens_per_row=_ratio(totals.num_response_tokens, good),
        policy_tokens_per_row=_ratio(totals.num_policy_tokens, good),
        reward_tokens_per_row=_ratio(totals.num_reward_tokens, good),
        wall_s=wall_s,
        num_rows_this_start=usage.num_rows_done,
        rows_per_s=_ratio(usage.num_rows_done, wall_s) or 0.0,
        response_tokens_per_s=_ratio(usage.num_response_tokens, wall_s) or 0.0,
        slot_occupancy=usage.slot_occupancy,
        policy=_role(usage.policy),
        reward=_role(usage.reward),
        cells=tuple(
            CellMetrics(cell, u.num_rows_done, u.slot_occupancy, _role(u.policy), _role(u.reward))
            for cell, u in usages.items()
        ),
        advice=advise(config.cluster, config.coordinator.cohorts_in_flight, usage, config.reward.width_key),
    )


def measure_output(parts: Location) -> OutputTotals:
    """Counts over all part files, streamed; memory does not grow with the rows."""
    sums: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    for location in part_files(parts):
        with pq.ParquetFile(location.path, filesystem=location.filesystem) as file:
            columns = [*SUMMED, "reward", "finish_reason", "error_type", "segments.list.element"]
            for batch in file.iter_batches(columns=columns):
                _count(batch, sums, errors)
    names = OutputTotals.__dataclass_fields__.keys() - {"error_rows_by_type", "num_error_rows"}
    counts: dict[str, Any] = {name: sums[name] for name in names}
    return OutputTotals(**counts, num_error_rows=errors.total(), error_rows_by_type=dict(sorted(errors.items())))


def _count(batch: pa.RecordBatch, sums: Counter[str], errors: Counter[str]) -> None:
    segments = pc.list_flatten(batch.column("segments"))
    sums["num_rows"] += batch.num_rows
    sums["num_segments"] += len(segments)
    sums["num_attempts"] += _sum(pc.struct_field(segments, "num_attempts"))
    sums["num_fallbacks"] += _sum(pc.equal(pc.struct_field(segments, "accepted_by"), "fallback"))
    sums["num_stopped"] += _sum(pc.equal(batch.column("finish_reason"), "stop"))
    sums["reward_sum"] += _sum(batch.column("reward"))
    for name in SUMMED:
        sums[name] += _sum(batch.column(name))
    for entry in pc.value_counts(batch.column("error_type")).to_pylist():
        if entry["values"] is not None:
            errors[entry["values"]] += entry["counts"]


def _sum(values: pa.Array) -> Any:
    return pc.sum(values).as_py() or 0


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _role(usage: RoleUsage) -> RoleMetrics:
    return RoleMetrics(
        usage.num_calls,
        usage.num_rows,
        usage.num_tokens,
        usage.busy_s,
        usage.prefill_s,
        usage.sampling_s,
        usage.busy_fraction,
        usage.mean_cohort_size,
        usage.tokens_per_s,
        usage.mean_queue_wait_s,
    )
