"""Runs of the main job, from checked plans to finished run directories.

1. start or join a Ray cluster, see what its memory holds, load the models;
2. align every shard that is not committed, gather the part files;
3. the same, plainly decoded, for the first `baseline_rows` rows;
4. the error rows again, where that was asked for;
5. measure the output, write the metrics, mark the run finished.

Killed anywhere, the same command goes on: committed shards and gathered stages are not done again.
A finished run is started for `retry_errors` only, and only if it has error rows. Runs that share both models and the
engine are finished one after the other, with models that are loaded once.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import ray
from ray.exceptions import RayTaskError
from rich.console import Console

from actors.batch.stages import Work, run_stage
from actors.cluster.gpu_reservation import Reservation, reserved
from actors.cluster.placement import Models, start_duplicate_search, start_models, stop_models
from actors.engines.backends import Role
from actors.startup.engine_shape import expected_peaks, with_engine_shape
from actors.startup.memory_pools import find_places
from actors.startup.model_limits import longest_model_len, read_model_configs
from pipeline.config.align import AlignConfig
from pipeline.dataset.columns import InputColumns
from pipeline.dataset.plan import InputPlan
from pipeline.errors import StarsError
from pipeline.runs.baseline import compare_outputs
from pipeline.runs.directory import RunDirectory
from pipeline.runs.metrics import RunMetrics
from pipeline.runs.retry import count_error_rows
from pipeline.strategies.vanilla import VanillaConfig

MIN_CPUS = 2  # reading and writing need one each; models and the coordinator ask for none


@dataclass(frozen=True, slots=True)
class Job:
    """One run that is not finished: what `jobs.align` was given, checked."""

    config: AlignConfig
    plan: InputPlan
    columns: InputColumns
    run: RunDirectory
    retries_errors: bool = False


def run_align(
    config: AlignConfig, plan: InputPlan, columns: InputColumns, run: RunDirectory, retry_errors: bool = False
) -> RunMetrics:
    """Do what is left of the run.

    Raises:
        StarsError: what went wrong, in one line.
    """
    console = Console()
    if run.is_finished and not (retry_errors and _has_error_rows(run)):
        rest = "it has no error row" if retry_errors else "nothing to do"
        console.print(f"{run.root} is finished: {rest}.", soft_wrap=True)
        return RunMetrics.load(run.metrics_file)
    return finish_jobs([Job(config, plan, columns, run, retry_errors)], console)[0]


def finish_jobs(jobs: Sequence[Job], console: Console) -> list[RunMetrics]:
    """Do what is left of runs with the same `policy`, `reward`, `engine` and `cluster`; the models are loaded once.

    Raises:
        StarsError: what went wrong, in one line.
    """
    try:
        return _finish_jobs(jobs, console)
    except Exception as error:
        raise stars_error(error) or error from error


def _has_error_rows(run: RunDirectory) -> bool:
    return any(count_error_rows(stage) for stage in (run.aligned, run.baseline))


def _finish_jobs(jobs: Sequence[Job], console: Console) -> list[RunMetrics]:
    started_s = time.monotonic()
    widest = max((job.config for job in jobs), key=lambda config: config.strategy.num_lanes)
    model_configs = read_model_configs(widest)
    limit = min(longest_model_len(job.config, model_configs) for job in jobs)
    metrics = []
    with cluster(), reserved(widest) as reservation:
        places = find_places(widest, model_configs, reservation)
        shaped = with_engine_shape(widest, limit, places)
        if None in (widest.engine.slots, widest.engine.max_model_len) and places:
            shape = f"{shaped.engine.slots} slots of {shaped.engine.max_model_len} tokens"
            console.print(f"room for {shape}", highlight=False)
        peaks = expected_peaks(shaped, places)
        with _loaded_models(shaped, reservation, console) as models:
            for job in jobs:
                config = job.config.model_copy(update={"engine": shaped.engine})
                metrics.append(_finish(replace(job, config=config), models, peaks, started_s, console))
                started_s = time.monotonic()
    return metrics


def _finish(job: Job, models: Models, peaks: dict[Role, int], started_s: float, console: Console) -> RunMetrics:
    """All stages of one run. What its wall time holds of loading is in `started_s`."""
    config, plan, run = job.config, job.run.kept_plan(job.plan), job.run
    run.reopen()
    works = [Work(config, plan, job.columns, run.aligned, job.retries_errors, peaks)]
    if config.baseline_rows and config.strategy.name != "vanilla":
        vanilla = VanillaConfig(segment_size=config.strategy.segment_size)
        plain = config.model_copy(update={"strategy": vanilla, "keep_rejected": False})
        works.append(Work(plain, plan.head(config.baseline_rows), job.columns, run.baseline, job.retries_errors, peaks))
    duplicates = start_duplicate_search(plan, job.columns)
    stages = [run_stage(work, models, duplicates, run, console) for work in works]
    baseline = stages[1] if len(stages) > 1 else None
    comparison = compare_outputs(config, run.aligned.parts, run.baseline.parts) if baseline else None
    metrics = RunMetrics(stages[0], baseline, comparison, time.monotonic() - started_s)
    metrics.save(run.metrics_file)
    run.mark_finished()
    return metrics


def stars_error(error: BaseException | None) -> StarsError | None:
    """The StarsError that a task raised, inside the errors that Ray and Ray Data wrapped around it."""
    while error is not None:
        if isinstance(error, StarsError) and not isinstance(error, RayTaskError):
            error.args = (str(error).partition("\n")[0],)  # our messages are one line; Ray Data adds its advice
            return error
        error = getattr(error, "cause", None) or error.__cause__ or error.__context__
    return None


@contextmanager
def _loaded_models(config: AlignConfig, reservation: Reservation, console: Console) -> Iterator[Models]:
    names = " and ".join(dict.fromkeys(model.model or model.backend for model in (config.policy, config.reward)))
    console.print(f"loading {names} …", highlight=False, soft_wrap=True)
    models = start_models(config, reservation)
    yield models
    stop_models(models)  # not after a fault: calls still in flight would be sent again and again; they die with us


@contextmanager
def cluster() -> Iterator[None]:
    """The cluster of RAY_ADDRESS, the one this process is on already, or a small one of our own."""
    if ray.is_initialized():
        yield
        return
    join_cluster()
    try:
        yield
    finally:
        ray.shutdown()


def join_cluster() -> None:
    """The cluster of this process, that of RAY_ADDRESS, or a small one of our own, as long as this process."""
    if ray.is_initialized():
        return
    with _kept_signal_handlers():
        if os.environ.get("RAY_ADDRESS"):
            ray.init(logging_level="warning")
        else:
            _start_own_cluster()


@contextmanager
def _kept_signal_handlers() -> Iterator[None]:
    """`ray.init` takes SIGTERM for itself; how a process ends is its own business."""
    is_main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM) if is_main}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


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
