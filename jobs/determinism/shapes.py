"""Whether responses depend on who shares a model call: the same rows in several shapes, for each numeric setting.

Draws are keyed, so only a floating-point difference can make a row come out differently: a logit or a reward whose last
bit depends on the batch may flip a token or an acceptance, and everything after it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from jobs.output_comparison import Differences, compare_outputs
from jobs.started_job import StartedJob
from pipeline.errors import StarsError

SHAPES = {
    "one cell": ["engine.slots=64", "coordinator.cohorts_in_flight=2"],
    "two cells": [
        *("cluster.cells=2", "engine.slots=23", "coordinator.cohorts_in_flight=3", "coordinator.max_cohort_size=5"),
        *("dataset.rows_per_shard=50", "dataset.read_rows=100", "strategy.proposals_per_round=4"),
    ],
    "four cells": [
        *("cluster.cells=4", "engine.slots=10", "coordinator.cohorts_in_flight=1", "dataset.rows_per_shard=7"),
        "strategy.proposals_per_round=1",
    ],
}
FIRST = next(iter(SHAPES))
SETTINGS = {
    f"{dtype}, {threads} thread{'s' * (threads > 1)}": [
        f"{model}.{key}={value}"
        for model in ("policy", "reward")
        for key, value in (("dtype", dtype), ("num_threads", threads))
    ]
    for dtype, threads in (("float32", 1), ("float32", 2), ("bfloat16", 1))
}
COLUMNS = {"a flipped token (response)": "response", "reward": "reward", "segments": "segments"}


class DeterminismError(StarsError):
    """Two shapes gave other rows, so there is nothing to compare."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One shape's rows against those of the first shape, in one numeric setting."""

    setting: str
    shape: str
    differences: Differences


def measure(arguments: list[str], folder: Path, settings: list[str]) -> Iterator[Measured]:
    """Run the main job in every shape for each setting.

    Raises:
        JobFailed: the job failed.
        DeterminismError: a shape lost rows or changed their order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number, setting in enumerate(settings):
        outputs = {shape: folder / f"{number}-{shape.replace(' ', '-')}" for shape in SHAPES}
        for shape, output in outputs.items():
            options = [*arguments, *SETTINGS[setting], *SHAPES[shape], f"output={output}"]
            with StartedJob(options, output.with_suffix(".log")) as job:
                job.finish()
            if shape != FIRST:
                yield Measured(setting, shape, same_rows(outputs[FIRST], output))


def same_rows(first: Path, second: Path) -> Differences:
    """The differences between two outputs with the same rows in the same order; DeterminismError for others."""
    differences = compare_outputs(first, second)
    if not differences.has_same_rows:
        raise DeterminismError(f"{first} and {second} hold other rows, or in another order: {differences}")
    return differences


def differences_table(measured: list[Measured]) -> Table:
    table = Table(title=f"rows that differ from those of {FIRST}, of all rows")
    table.add_column("setting")
    table.add_column("shape")
    for title in COLUMNS:
        table.add_column(title, justify="right")
    for row in measured:
        counts, num_rows = row.differences.by_column, row.differences.num_rows
        table.add_row(row.setting, row.shape, *(f"{counts[name]:,} of {num_rows:,}" for name in COLUMNS.values()))
    return table
