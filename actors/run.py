"""One run of the main job, from a checked plan to a finished run directory.

1. start or join a Ray cluster, load the models;
2. align every shard that is not committed, gather the part files;
3. the same, plainly decoded, for the first `baseline_rows` rows;
4. measure the output, write the metrics, mark the run finished, show the summary.

Killed anywhere, the same command goes on: committed shards and gathered stages are not done again.
"""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayTaskError
from rich.console import Console

from actors.align_shards import AlignShards
from actors.interrupts import raise_on_signals
from actors.model_limits import with_max_model_len
from actors.placement import Models, start_duplicate_search, start_models, start_monitor, stop_models
from actors.progress import shown_progress
from actors.summary import show_summary
from pipeline.compare import compare_outputs
from pipeline.config import AlignConfig, VanillaConfig
from pipeline.dataset import AlignerSpec, run_graph
from pipeline.errors import StarsError
from pipeline.input_plan import InputPlan
from pipeline.input_schema import InputColumns, input_schema
from pipeline.metrics import RunMetrics, StageMetrics, measure_stage
from pipeline.output import output_schema
from pipeline.run_directory import RunDirectory, Stage
from pipeline.shards import committed_shards, gather_parts
from pipeline.usage import CoordinatorUsage

MIN_CPUS = 2  # reading and writing need one each; models and the coordinator ask for none


@dataclass(frozen=True, slots=True)
class Work:
    """One stage: its config and rows, and where they go."""

    config: AlignConfig
    plan: InputPlan
    columns: InputColumns
    stage: Stage


def run_align(config: AlignConfig, plan: InputPlan, columns: InputColumns, run: RunDirectory) -> RunMetrics:
    """Do what is left of the run and show its summary.

    Raises:
        StarsError: what went wrong, in one line.
    """
    console = Console()
    if run.is_finished:
        console.print(f"{run.root} is finished: nothing to do.", soft_wrap=True)
        metrics = RunMetrics.load(run.metrics_file)
    else:
        try:
            metrics = _finish(with_max_model_len(config), plan, columns, run, console)
        except Exception as error:
            raise _stars_error(error) or error from error
    show_summary(console, config, run, metrics)
    return metrics


def _finish(
    config: AlignConfig, plan: InputPlan, columns: InputColumns, run: RunDirectory, console: Console
) -> RunMetrics:
    started_s = time.monotonic()
    works = [Work(config, plan, columns, run.aligned)]
    if config.baseline_rows and config.strategy.name != "vanilla":
        plain = config.model_copy(update={"strategy": VanillaConfig(segment_size=config.strategy.segment_size)})
        works.append(Work(plain, plan.head(config.baseline_rows), columns, run.baseline))
    with cluster(), _loaded_models(config, console) as models:
        duplicates = start_duplicate_search(plan, columns)
        stages = [_run_stage(work, models, duplicates, run, console) for work in works]
    baseline = stages[1] if len(stages) > 1 else None
    comparison = compare_outputs(config, run.aligned.parts, run.baseline.parts) if baseline else None
    metrics = RunMetrics(stages[0], baseline, comparison, time.monotonic() - started_s)
    metrics.save(run.metrics_file)
    run.mark_finished()
    return metrics


def _run_stage(work: Work, models: Models, duplicates: Any, run: RunDirectory, console: Console) -> StageMetrics:
    """Align and gather one stage, unless an earlier start did."""
    started_s, usage = time.monotonic(), CoordinatorUsage()
    if work.stage.name not in run.manifest.gathered:
        usage = _align(work, models, duplicates, console)
        schema = output_schema(input_schema(work.plan.schema, work.columns), work.config.strategy.name)
        work.stage.parts.create_directory()
        gather_parts(work.plan, work.stage.shards, work.stage.parts, schema, work.config.dataset.rows_per_file)
    run.mark_gathered(work.stage)
    return measure_stage(work.config.strategy.name, work.stage.parts, usage, time.monotonic() - started_s)


def _align(work: Work, models: Models, duplicates: Any, console: Console) -> CoordinatorUsage:
    work.stage.shards.create_directory()
    committed = committed_shards(work.stage.shards)
    num_rows_before = sum(work.plan.shard(number).num_rows for number in committed.tolist())
    if len(committed) == work.plan.num_shards:
        return CoordinatorUsage()
    monitor = start_monitor()
    arguments = (work.config, work.columns, work.plan.rows_per_shard, [duplicates], models, monitor)

    def usage() -> CoordinatorUsage:
        return ray.get(monitor.total.remote())

    with shown_progress(console, work.stage.name, work.plan.num_rows, num_rows_before, usage):
        run_graph(
            work.config, work.plan, work.columns, committed, AlignerSpec(AlignShards, arguments), work.stage.shards
        )
    return usage()


def _stars_error(error: BaseException | None) -> StarsError | None:
    """The StarsError that a task raised, inside the errors that Ray and Ray Data wrapped around it."""
    while error is not None:
        if isinstance(error, StarsError) and not isinstance(error, RayTaskError):
            error.args = (str(error).partition("\n")[0],)  # our messages are one line; Ray Data adds its advice
            return error
        error = getattr(error, "cause", None) or error.__cause__ or error.__context__
    return None


@contextmanager
def _loaded_models(config: AlignConfig, console: Console) -> Iterator[Models]:
    names = " and ".join(dict.fromkeys(model.model or model.backend for model in (config.policy, config.reward)))
    console.print(f"loading {names} …", highlight=False, soft_wrap=True)
    models = start_models(config)
    yield models
    stop_models(models)  # not after a fault: calls still in flight would be sent again and again; they die with us


@contextmanager
def cluster() -> Iterator[None]:
    """The cluster of RAY_ADDRESS, the one this process is on already, or a small one of our own."""
    if ray.is_initialized():
        yield
        return
    if os.environ.get("RAY_ADDRESS"):
        ray.init(logging_level="warning")
    else:
        _start_own_cluster()
    raise_on_signals()
    try:
        yield
    finally:
        ray.shutdown()


def _start_own_cluster() -> None:
    """A cluster as long as this process. What workers print goes to Ray's session folder, not between our lines."""
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)  # tells every time that tokens are on
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # the first error ends the run and is told
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # else a known false alarm per actor pool (ray#53727)
    ray.init(
        "local",
        num_cpus=max(MIN_CPUS, _usable_cpus()),
        include_dashboard=False,
        log_to_driver=False,
        logging_level="warning",
    )


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
