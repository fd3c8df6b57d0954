"""Shard files, the unit of commit.

Invariant: a shard's file name is its number in the plan, so a shard that is done again replaces itself.
"""

import re
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset.plan import InputPlan, Shard, Span
from pipeline.errors import OutputError
from pipeline.storage import Location

SHARD_NAME = re.compile(r"shard-(\d+)\.parquet")
FIRST_ROW_KEY = b"stars.first_row"


def shard_file(shards: Location, number: int) -> Location:
    return shards / f"shard-{number:08d}.parquet"


def write_shard(shards: Location, shard: Shard, table: pa.Table) -> None:
    """Commit one shard: all of it, or nothing."""
    metadata = {**(table.schema.metadata or {}), FIRST_ROW_KEY: str(shard.first_row).encode()}
    with shard_file(shards, shard.number).atomic_writer() as stream:
        pq.write_table(table.replace_schema_metadata(metadata), stream)


def committed_shards(shards: Location) -> npt.NDArray[np.int64]:
    """Sorted numbers of the shards that are there already."""
    matches = map(SHARD_NAME.fullmatch, shards.names())
    return np.array(sorted(int(match[1]) for match in matches if match), np.int64)


def read_shard_rows(plan: InputPlan, shards: Location, span: Span) -> Iterator[pa.Table]:
    """The span's rows in order, a shard at a time, checked against the plan: each input row exactly once.

    Raises:
        OutputError: a shard is missing, damaged, or does not hold the rows the plan says.
    """
    for number in range(span.first_row // plan.rows_per_shard, -(-span.end_row // plan.rows_per_shard)):
        shard = plan.shard(number)
        table = _read_shard(shard, shard_file(shards, number))
        first, end = max(span.first_row, shard.first_row), min(span.end_row, shard.first_row + shard.num_rows)
        yield table.slice(first - shard.first_row, end - first)


def _read_shard(shard: Shard, location: Location) -> pa.Table:
    try:
        with pq.ParquetFile(location.path, filesystem=location.filesystem) as file:
            table = file.read()
    except OSError as error:
        raise OutputError(f"shard {str(location)!r} cannot be read: {' '.join(str(error).split())}") from None
    except pa.ArrowException:  # as a machine that lost power may leave a file: renamed, but never written out
        location.filesystem.delete_file(location.path)
        raise OutputError(f"shard {str(location)!r} was damaged and is removed; start the same command again") from None
    metadata = dict(table.schema.metadata or {})
    first_row = int(metadata.pop(FIRST_ROW_KEY, b"-1"))
    if (first_row, table.num_rows) != (shard.first_row, shard.num_rows):
        raise OutputError(
            f"shard {str(location)!r} holds {table.num_rows} rows from row {first_row} on, "
            f"not {shard.num_rows} from row {shard.first_row} on; delete it and start again"
        )
    return table.replace_schema_metadata(metadata or None)
