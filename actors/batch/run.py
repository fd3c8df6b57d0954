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

import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

from ray.exceptions import RayTaskError
from rich.console import Console

from actors.batch.stages import StageSpec, run_stage
from actors.batch.tasks import start_duplicate_search
from actors.startup.ready_models import ReadyModels, Report, ready_models
from pipeline.config.align import AlignConfig
from pipeline.dataset.columns import InputColumns
from pipeline.dataset.plan import InputPlan
from pipeline.errors import StarsError
from pipeline.runs.baseline import compare_outputs
from pipeline.runs.directory import RunDirectory
from pipeline.runs.metrics import RunMetrics
from pipeline.runs.retry import count_error_rows
from pipeline.strategies.vanilla import VanillaConfig


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
    return any(count_error_rows(run.output(stage)) for stage in (run.aligned, run.baseline))


def _finish_jobs(jobs: Sequence[Job], console: Console) -> list[RunMetrics]:
    started_s, metrics = time.monotonic(), dict[int, RunMetrics]()
    report = partial(console.print, highlight=False, soft_wrap=True)
    with ExitStack() as held:
        for job in jobs:
            held.enter_context(job.run.held(report))
        jobs = [_as_begun(job, report) for job in jobs]
        for numbers in _sharing_models(jobs):
            with ready_models([jobs[number].config for number in numbers], report) as ready:
                for number in numbers:
                    metrics[number] = _finish(jobs[number], ready, started_s, console)
                    started_s = time.monotonic()
    return [metrics[number] for number in range(len(jobs))]


def _as_begun(job: Job, report: Report) -> Job:
    """The job with the models and the engine of its run's first start."""
    config = job.run.kept_config(job.config)
    if config.engine != job.config.engine:
        report(f"going on as begun, with {config.engine.slots} slots of {config.engine.max_model_len} tokens")
    return replace(job, config=config)


def _sharing_models(jobs: Sequence[Job]) -> Iterable[list[int]]:
    """Numbers of jobs in groups that one loading serves: runs that were begun before may have kept another engine."""
    groups: dict[str, list[int]] = {}
    for number, job in enumerate(jobs):
        groups.setdefault(job.config.model_dump_json(include={"policy", "reward", "engine"}), []).append(number)
    return groups.values()


def _finish(job: Job, ready: ReadyModels, started_s: float, console: Console) -> RunMetrics:
    """All stages of one run. What its wall time holds of loading is in `started_s`."""
    config, plan, run = job.config.loaded_as(ready.decoding), job.run.kept_plan(job.plan), job.run
    peaks = ready.expected_peaks
    if run.is_finished and not job.retries_errors:  # by another start, while this one waited for its end
        return RunMetrics.load(run.metrics_file)
    run.reopen()
    run.keep(ready.decoding)
    specs = [StageSpec(config, plan, job.columns, run.aligned, job.retries_errors, peaks)]
    if config.baseline_rows and config.strategy.name != "vanilla":
        vanilla = VanillaConfig(segment_size=config.strategy.segment_size)
        plain = config.model_copy(update={"strategy": vanilla, "keep_rejected": False})
        specs.append(
            StageSpec(plain, plan.head(config.baseline_rows), job.columns, run.baseline, job.retries_errors, peaks)
        )
    duplicates = start_duplicate_search(plan, job.columns)
    stages = [run_stage(spec, ready.models, duplicates, run, console) for spec in specs]
    baseline = stages[1] if len(stages) > 1 else None
    comparison = None
    if baseline is not None:
        comparison = compare_outputs(config, config.judge, run.output(run.aligned), run.output(run.baseline))
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
