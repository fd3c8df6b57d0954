"""One stage of a run: align what is not committed, gather the part files, redo error rows where that was asked for."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from rich.console import Console

from actors.batch.align_shards import AlignShards
from actors.batch.progress import Progress
from actors.batch.supervision import CoordinatorWatch, RestartWatch, supervised
from actors.batch.tasks import start_monitor, start_retry_duplicates
from actors.cluster.placement import Models, peak_memory
from actors.engines.backends import Role
from pipeline.config.align import AlignConfig
from pipeline.dataset.columns import InputColumns, input_schema
from pipeline.dataset.graph import AlignerSpec, run_graph
from pipeline.dataset.parts import Gathering
from pipeline.dataset.plan import InputPlan
from pipeline.dataset.schema import output_schema
from pipeline.dataset.shards import committed_shards
from pipeline.runs.directory import RunDirectory, Stage
from pipeline.runs.metrics import StageMetrics, measure_output, measure_stage
from pipeline.runs.retry import begin_retry, end_retry, merge_retry, open_retry
from pipeline.runs.usage import UsageByCell, added_by_cell
from pipeline.storage import Location


@dataclass(frozen=True, slots=True)
class StageSpec:
    """One stage: its config and rows, where they go, whether error rows that are there already are redone, and the most
    memory that each model should need, in bytes."""

    config: AlignConfig
    plan: InputPlan
    columns: InputColumns
    stage: Stage
    retries_errors: bool = False
    expected_peaks: Mapping[Role, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ShardPass:
    """Rows that go through the graph once, into shards of their own."""

    title: str
    plan: InputPlan
    columns: InputColumns
    shards: Location
    duplicates: Any


def run_stage(work: StageSpec, models: Models, duplicates: Any, run: RunDirectory, console: Console) -> StageMetrics:
    """Do what is left of one stage; whatever an earlier start gathered or redid is kept."""
    started_s, stage = time.monotonic(), work.stage
    usages: UsageByCell = {}
    if stage.name not in run.manifest.gathered:
        rows = ShardPass(stage.name, work.plan, work.columns, stage.shards, duplicates)
        usages = _align(work.config, rows, models, run, console)
        rows_schema = input_schema(work.plan.schema, work.columns)
        schema = output_schema(rows_schema, work.config.strategy.name, work.config.keep_rejected)
        stage.parts.create_directory()
        gathering = Gathering(work.plan, stage.shards, stage.parts, schema, work.config.dataset.rows_per_file)
        for numbers in gathering.tasks():
            gathering.gather(numbers)
        gathering.finish()
    run.mark_gathered(stage)
    if work.retries_errors:
        begin_retry(work.plan, work.columns, stage, run.output(stage))
    usages = added_by_cell(usages, _redo_error_rows(work, models, duplicates, run, console))
    totals = measure_output(run.output(stage))
    metrics = measure_stage(work.config, totals, usages, time.monotonic() - started_s)
    peaks, expected = peak_memory(models), work.expected_peaks
    return replace(
        metrics,
        policy=replace(metrics.policy, peak_bytes=peaks.get("policy"), expected_peak_bytes=expected.get("policy")),
        reward=replace(metrics.reward, peak_bytes=peaks.get("reward"), expected_peak_bytes=expected.get("reward")),
    )


def _redo_error_rows(
    work: StageSpec, models: Models, duplicates: Any, run: RunDirectory, console: Console
) -> UsageByCell:
    retry = open_retry(work.plan, work.columns, work.stage)
    usages: UsageByCell = {}
    if retry is not None:
        repeated = start_retry_duplicates(retry, duplicates)
        rows = ShardPass(f"{work.stage.name}, error rows again", retry.plan, retry.columns, retry.shards, repeated)
        usages = _align(work.config, rows, models, run, console)
        merge_retry(retry, run.output(work.stage))
    run.check_lease()
    end_retry(work.stage)
    return usages


def _align(config: AlignConfig, rows: ShardPass, models: Models, run: RunDirectory, console: Console) -> UsageByCell:
    rows.shards.create_directory()
    committed = committed_shards(rows.shards)
    num_rows_before = sum(rows.plan.shard(number).num_rows for number in committed.tolist())
    if len(committed) == rows.plan.num_shards:
        return {}
    monitor = start_monitor(models)
    arguments = (config, rows.columns, rows.plan.rows_per_shard, [rows.duplicates], models, monitor)
    aligner = AlignerSpec(AlignShards, arguments, config.cluster.cells, config.slots_per_cell)
    models_watch, coordinators = RestartWatch(models), CoordinatorWatch(monitor, config.coordinator.call_timeout_s)
    progress = Progress(console, rows.title, rows.plan.num_rows, num_rows_before)

    def align() -> None:
        run_graph(rows.plan, rows.columns, committed, aligner, rows.shards, config.dataset.read_rows)

    def poll() -> None:
        run.check_lease()
        total = ray.get(monitor.total.remote())
        reported = ray.get(monitor.take_lines.remote())
        for line in [*reported, *models_watch.poll(), *coordinators.poll(total.num_rows_done)]:
            progress.report(line)
        progress.show(total)

    try:
        supervised(align, poll)
        progress.show(ray.get(monitor.total.remote()), is_last=True)
    finally:
        progress.close()
    return ray.get(monitor.by_cell.remote())
