"""Error rows of a gathered stage, done again: the good rows are read from the part files and never computed anew.

    retry/rows.parquet     the error rows' input columns and their indices in the whole output
    retry/shards/          their results, committed shard by shard as in any run
    part-*.parquet         each rewritten whole with the new results, then renamed over the old file

Invariants: a retry is under way from the moment `rows.parquet` is there until it is deleted, and `rows.parquet` names
the rows that are redone whatever the part files hold by then. Killed anywhere, the same rows go on; good rows stay.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.dataset.columns import InputColumns, input_schema
from pipeline.dataset.plan import InputPlan, Span, plan_file
from pipeline.dataset.shards import read_shard_rows
from pipeline.runs.directory import Stage
from pipeline.runs.outputs import StageOutput
from pipeline.storage import Location

INDEX_COLUMN = "_stars_row_index"


@dataclass(frozen=True, slots=True)
class Retry:
    """The error rows as an input of their own; `row_indices` are their sorted places in the whole output."""

    plan: InputPlan
    columns: InputColumns
    row_indices: npt.NDArray[np.int64]
    shards: Location


def begin_retry(plan: InputPlan, columns: InputColumns, stage: Stage, output: StageOutput) -> int:
    """Write down which rows of the stage are to be redone, unless a retry is under way; their number."""
    rows_file = _rows_file(stage)
    if rows_file.exists():
        return _num_rows(rows_file)
    stage.retry.delete_directory()
    schema = input_schema(plan.schema, columns)
    num_rows = count_error_rows(output)
    if num_rows:
        stage.retry.create_directory()
        with rows_file.atomic_writer() as stream:
            _write_error_rows(stream, schema.append(pa.field(INDEX_COLUMN, pa.int64())), output)
    return num_rows


def count_error_rows(output: StageOutput) -> int:
    """Error rows of a gathered stage."""
    return sum(batch.num_rows - batch.column("error_type").null_count for batch in output.batches(["error_type"]))


def open_retry(plan: InputPlan, columns: InputColumns, stage: Stage) -> Retry | None:
    """The retry that is under way, if there is one."""
    rows_file = _rows_file(stage)
    if not rows_file.exists():
        return None
    retried = replace(plan_file(rows_file, plan.rows_per_shard), schema=input_schema(plan.schema, columns))
    with pq.ParquetFile(rows_file.path, filesystem=rows_file.filesystem) as file:
        row_indices = file.read(columns=[INDEX_COLUMN]).column(0).to_numpy()
    return Retry(retried, replace(columns, adds_id=False), row_indices, stage.retry / "shards")


def merge_retry(retry: Retry, output: StageOutput) -> None:
    """Put the new results in the old ones' places, one part file at a time."""
    first_row = 0
    results = _Results(read_shard_rows(retry.plan, retry.shards, Span(0, retry.plan.num_rows)))
    for part in output.files:
        end_row = first_row + _num_rows(part)
        first, end = np.searchsorted(retry.row_indices, [first_row, end_row])
        if first < end:
            _rewrite(part, first_row, retry.row_indices[first:end], results)
        first_row = end_row


def end_retry(stage: Stage) -> None:
    """Let go of a merged retry; `rows.parquet` first, so that what else is left of it is never taken for another's."""
    rows_file = _rows_file(stage)
    if rows_file.exists():
        rows_file.filesystem.delete_file(rows_file.path)
    stage.retry.delete_directory()


def _write_error_rows(stream: pa.NativeFile, schema: pa.Schema, output: StageOutput) -> None:
    with pq.ParquetWriter(stream, schema) as writer:
        for first_row, table in output.row_groups([*schema.names[:-1], "error_type"]):
            indices = pa.array(np.arange(first_row, first_row + table.num_rows))
            rows = table.drop_columns("error_type").append_column(INDEX_COLUMN, indices)
            writer.write_table(rows.filter(_is_error(table)).cast(schema))


def _is_error(table: pa.Table) -> pa.ChunkedArray:
    return pc.is_valid(table.column("error_type"))


def _rewrite(part: Location, first_row: int, row_indices: npt.NDArray[np.int64], results: "_Results") -> None:
    with (
        pq.ParquetFile(part.path, filesystem=part.filesystem) as file,
        part.atomic_writer() as stream,
        pq.ParquetWriter(stream, file.schema_arrow) as writer,
    ):
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            first, end = np.searchsorted(row_indices, [first_row, first_row + table.num_rows])
            places = (row_indices[first:end] - first_row).tolist()
            table = _with_rows(table, places, results.take(len(places)))
            writer.write_table(table, row_group_size=max(1, table.num_rows))
            first_row += table.num_rows


def _with_rows(table: pa.Table, places: list[int], rows: pa.Table | None) -> pa.Table:
    """`table` with the rows at `places` (sorted) replaced; slices only, so no column type has to be copied."""
    if rows is None:
        return table
    pieces, kept = [], 0
    for i, place in enumerate(places):
        pieces += [table.slice(kept, place - kept), rows.slice(i, 1).cast(table.schema)]
        kept = place + 1
    return pa.concat_tables([*pieces, table.slice(kept)])


class _Results:
    """The retried rows in order, handed out in any portions."""

    def __init__(self, tables: Iterator[pa.Table]) -> None:
        self.tables = tables
        self.waiting: pa.Table | None = None

    def take(self, count: int) -> pa.Table | None:
        """The next `count` rows; None for none."""
        if not count:
            return None
        while self.waiting is None or self.waiting.num_rows < count:
            table = next(self.tables)
            self.waiting = table if self.waiting is None else pa.concat_tables([self.waiting, table])
        taken, self.waiting = self.waiting.slice(0, count), self.waiting.slice(count)
        return taken


def _num_rows(file: Location) -> int:
    return pq.read_metadata(file.path, filesystem=file.filesystem).num_rows


def _rows_file(stage: Stage) -> Location:
    return stage.retry / "rows.parquet"
