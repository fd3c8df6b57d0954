"""Whether responses depend on who shares a model call: the same rows in several shapes, for each numeric setting.

Draws are keyed, so only a floating-point difference can make a row come out differently: a logit or a reward whose last
bit depends on the batch may flip a token or an acceptance, and everything after it.
"""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.table import Table

from pipeline.errors import StarsError

ROOT = Path(__file__).parents[2]
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
    "float32, 1 thread": [],
    "float32, 2 threads": ["policy.num_threads=2", "reward.num_threads=2"],
    "bfloat16, 1 thread": ["policy.dtype=bfloat16", "reward.dtype=bfloat16"],
}
COMPARED = ("response", "reward", "segments")


class DeterminismError(StarsError):
    """A run did not end well."""


@dataclass(frozen=True, slots=True)
class Differences:
    """Rows whose column is not equal, to the last bit, to what the first shape gave; of `num_rows`, by column."""

    setting: str
    shape: str
    num_rows: int
    num_different: dict[str, int]


def measure(arguments: list[str], folder: Path, settings: list[str]) -> Iterator[Differences]:
    """Run the main job in every shape for each setting.

    Raises:
        DeterminismError: the job failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number, setting in enumerate(settings):
        outputs = {shape: folder / f"{number}-{shape.replace(' ', '-')}" for shape in SHAPES}
        for shape, output in outputs.items():
            _align([*arguments, *SETTINGS[setting], *SHAPES[shape], f"output={output}"], output.with_suffix(".log"))
            if shape != FIRST:
                yield compare(setting, shape, outputs[FIRST], output)


def compare(setting: str, shape: str, first: Path, second: Path) -> Differences:
    """Both outputs' rows, in order."""
    one, other = (_read(output) for output in (first, second))
    if one["id"] != other["id"]:
        raise DeterminismError(f"{first} and {second} hold other rows, or in another order")
    counts = {name: sum(a != b for a, b in zip(one[name], other[name], strict=True)) for name in COMPARED}
    return Differences(setting, shape, len(one["id"]), counts)


def differences_table(measured: list[Differences]) -> Table:
    table = Table(title=f"rows that differ from those of {FIRST}, of all rows")
    table.add_column("setting")
    table.add_column("shape")
    for name in ("a flipped token (response)", "reward", "segments"):
        table.add_column(name, justify="right")
    for row in measured:
        table.add_row(
            row.setting, row.shape, *(f"{row.num_different[name]:,} of {row.num_rows:,}" for name in COMPARED)
        )
    return table


def _align(arguments: list[str], log: Path) -> None:
    command = [sys.executable, "-m", "jobs.align", *arguments]
    with log.open("ab") as stream:
        ended = subprocess.run(command, cwd=ROOT, stdout=stream, stderr=stream, check=False)
    if ended.returncode:
        raise DeterminismError(f"jobs.align ended with {ended.returncode}; see {log}")


def _read(output: Path) -> dict[str, list[object]]:
    tables = [pq.read_table(file, columns=["id", *COMPARED]) for file in sorted(output.glob("part-*.parquet"))]
    return pa.concat_tables(tables).to_pydict()
