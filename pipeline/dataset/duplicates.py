"""Which rows repeat an id that an earlier row already has. Memory: some 50 bytes a row, and the ids that do repeat."""

import hashlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.dataset.columns import InputColumns
from pipeline.dataset.plan import InputPlan, Span
from pipeline.dataset.reading import read_rows

RowIndices = npt.NDArray[np.int64]


def find_duplicates(plan: InputPlan, columns: InputColumns) -> RowIndices:
    """Sorted indices of the rows whose id occurred before. Null ids are no duplicates; they are errors of their own."""
    if columns.adds_id or plan.num_rows == 0:
        return np.empty(0, np.int64)
    hashes = np.fromiter((_hash(row_id) for row_id in _stream_ids(plan, columns)), np.uint64, plan.num_rows)
    suspects = _rows_sharing_a_hash(hashes)
    return _confirm(plan, columns, suspects) if len(suspects) else suspects


def id_text(value: object) -> bytes | None:
    """The id as the bytes that key its draws. A whole float is its integer: in pandas a null makes integers floats."""
    if isinstance(value, float):
        if value != value:
            return None
        value = int(value) if value.is_integer() else value
    return value if isinstance(value, bytes) or value is None else str(value).encode("utf-8")


def id_values(column: pa.ChunkedArray) -> list[bytes | None]:
    """The ids of a column as bytes; text is not decoded, so broken UTF-8 cannot raise."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_null(column.type)):
        column = column.cast(pa.large_binary())
    return [id_text(value) for value in column.to_pylist()]


def _stream_ids(plan: InputPlan, columns: InputColumns) -> Iterator[bytes | None]:
    for rows in read_rows(plan, columns, Span(0, plan.num_rows), only=[columns.id]):
        yield from id_values(rows.column(columns.id))


def _hash(row_id: bytes | None) -> int:
    return 0 if row_id is None else int.from_bytes(hashlib.blake2b(row_id, digest_size=8).digest(), "little")


def _rows_sharing_a_hash(hashes: npt.NDArray[np.uint64]) -> RowIndices:
    order = np.argsort(hashes, kind="stable")
    equal_next = hashes[order[1:]] == hashes[order[:-1]]
    shared = np.concatenate([equal_next, [False]]) | np.concatenate([[False], equal_next])
    return np.sort(order[shared & (hashes[order] != 0)]).astype(np.int64)


def _confirm(plan: InputPlan, columns: InputColumns, suspects: RowIndices) -> RowIndices:
    """Read the ids again and compare them themselves, so that two ids of one hash harm nobody."""
    wanted, seen, repeated = set(suspects.tolist()), set(), []
    for row_index, row_id in enumerate(_stream_ids(plan, columns)):
        if row_index in wanted and row_id is not None:
            if row_id in seen:
                repeated.append(row_index)
            seen.add(row_id)
    return np.array(repeated, np.int64)
