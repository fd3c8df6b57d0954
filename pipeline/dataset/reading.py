"""Reading a span of the input as shards: bounded memory, whatever the files' row groups look like."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.dataset.columns import InputColumns, input_schema
from pipeline.dataset.plan import InputFile, InputPlan, Shard, Span
from pipeline.errors import InputError

READ_BUFFER_BYTES = 1 << 20
READ_BATCH_ROWS = 1024


def read_shards(plan: InputPlan, columns: InputColumns, span: Span) -> Iterator[tuple[Shard, pa.Table]]:
    """Every shard of the span with its rows, in order, in the plan's schema and with the id column."""
    waiting: list[pa.Table] = []
    number, num_waiting = span.first_row // plan.rows_per_shard, 0
    for table in read_rows(plan, columns, span):
        waiting.append(table)
        num_waiting += table.num_rows
        while number < plan.num_shards and num_waiting >= plan.shard(number).num_rows:
            shard = plan.shard(number)
            rows = pa.concat_tables(waiting)
            yield shard, rows.slice(0, shard.num_rows)
            waiting, number, num_waiting = [rows.slice(shard.num_rows)], number + 1, num_waiting - shard.num_rows


def read_rows(plan: InputPlan, columns: InputColumns, span: Span, only: list[str] | None = None) -> Iterator[pa.Table]:
    """The span's rows as tables of some rows each; `only` names the columns to read, null for all."""
    for file in plan.files:
        first, end = max(span.first_row, file.first_row), min(span.end_row, file.first_row + file.num_rows)
        if first < end:
            yield from _read_file(plan, columns, file, Span(first, end), only)


def _read_file(
    plan: InputPlan, columns: InputColumns, file: InputFile, span: Span, only: list[str] | None
) -> Iterator[pa.Table]:
    group_ends = file.first_row + np.cumsum(file.group_rows)
    first_group, last_group = np.searchsorted(group_ends, [span.first_row, span.end_row - 1], side="right")
    row = int(group_ends[first_group]) - file.group_rows[first_group]
    schema = input_schema(plan.schema, columns)
    schema = schema if only is None else pa.schema([schema.field(name) for name in only])
    try:
        with pq.ParquetFile(file.path, filesystem=plan.filesystem, buffer_size=READ_BUFFER_BYTES) as reader:
            groups = range(first_group, last_group + 1)
            for batch in reader.iter_batches(READ_BATCH_ROWS, row_groups=groups, columns=only):
                first, end = max(span.first_row, row), min(span.end_row, row + batch.num_rows)
                if first < end:
                    rows = pa.Table.from_batches([batch.slice(first - row, end - first)])
                    yield _conform(rows, schema, columns, file, first)
                row += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        message = " ".join(str(error).split())
        raise InputError(
            f"input file {file.path!r} cannot be read near row {row - file.first_row}: {message}"
        ) from None


def _conform(rows: pa.Table, schema: pa.Schema, columns: InputColumns, file: InputFile, first_row: int) -> pa.Table:
    arrays = []
    for field in schema:
        if field.name in rows.column_names:
            arrays.append(rows.column(field.name).cast(field.type))
        elif columns.adds_id and field.name == columns.id:
            arrays.append(_default_ids(file, first_row - file.first_row, rows.num_rows))
        else:
            arrays.append(pa.nulls(rows.num_rows, field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def _default_ids(file: InputFile, first_position: int, num_rows: int) -> pa.Array:
    positions: npt.NDArray[np.int64] = np.arange(first_position, first_position + num_rows)
    return pc.binary_join_element_wise(file.relative_path, pc.cast(pa.array(positions), pa.string()), ":")
