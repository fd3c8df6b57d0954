"""What a run did, measured on its own output and on its models' counters; `_run/metrics.json` is exactly this.

Totals come from the output files, so they hold across restarts; model figures cover the last start only.
"""

from collections import Counter
from dataclasses import dataclass, fields
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import TypeAdapter

from pipeline.config.decoding import Decoding
from pipeline.runs.advice import Advice, advise
from pipeline.runs.outputs import StageOutput
from pipeline.runs.usage import RoleUsage, UsageByCell, total_usage
from pipeline.storage import Location

BY_TYPE = ("error_rows_by_type",)
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

    def __add__(self, other: "OutputTotals") -> "OutputTotals":
        """The counts over two sets of files together."""
        sums = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self) if f.name not in BY_TYPE}
        errors = Counter(self.error_rows_by_type) + Counter(other.error_rows_by_type)
        return OutputTotals(**sums, error_rows_by_type=dict(sorted(errors.items())))

    @property
    def num_good_rows(self) -> int:
        return self.num_rows - self.num_error_rows


@dataclass(frozen=True, slots=True)
class CellMetrics:
    """One cell's share of a stage; peaks are known by role only."""

    cell: int
    num_rows_done: int
    slot_occupancy: float | None
    policy: RoleUsage
    reward: RoleUsage


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
    policy: RoleUsage
    reward: RoleUsage
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


def measure_stage(config: Decoding, totals: OutputTotals, usages: UsageByCell, wall_s: float) -> StageMetrics:
    """The figures of the stage's output beside the models' counters."""
    usage = total_usage(usages)
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
        policy=usage.policy,
        reward=usage.reward,
        cells=tuple(
            CellMetrics(cell, u.num_rows_done, u.slot_occupancy, u.policy, u.reward) for cell, u in usages.items()
        ),
        advice=advise(config.cluster, config.coordinator.cohorts_in_flight, usage, config.reward.width_key),
    )


def measure_output(output: StageOutput) -> OutputTotals:
    """Counts over an output, or over some of its files, streamed; memory does not grow with the rows."""
    sums: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    for batch in output.batches([*SUMMED, "reward", "finish_reason", "error_type", "segments"]):
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
