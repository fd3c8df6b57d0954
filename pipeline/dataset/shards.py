"""Shard files, the unit of commit, and how they become the output: `part-00000.parquet`, … in input order.

Invariants: a shard's file name is its number in the plan, so a shard that is done again replaces itself; shards are
deleted only after every part file is in place, so a run killed anywhere can be finished by starting it again.
"""

import re
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset.plan import InputPlan, Shard
from pipeline.errors import OutputError
from pipeline.storage import TEMPORARY_PREFIX, Location

SHARD_NAME = re.compile(r"shard-(\d+)\.parquet")
PART_NAME = re.compile(r"part-(\d+)\.parquet")
FIRST_ROW_KEY = b"stars.first_row"
GROUP_ROWS = 8192
GROUP_BYTES = 64 << 20


def shard_file(shards: Location, number: int) -> Location:
    return shards / f"shard-{number:08d}.parquet"


def part_file(parts: Location, number: int) -> Location:
    return parts / f"part-{number:05d}.parquet"


def part_files(parts: Location) -> list[Location]:
    """The part files of a finished run, in order."""
    return [parts / name for name in sorted(filter(PART_NAME.fullmatch, parts.names()))]


def write_shard(shards: Location, shard: Shard, table: pa.Table) -> None:
    """Commit one shard: all of it, or nothing."""
    metadata = {**(table.schema.metadata or {}), FIRST_ROW_KEY: str(shard.first_row).encode()}
    with shard_file(shards, shard.number).atomic_writer() as stream:
        pq.write_table(table.replace_schema_metadata(metadata), stream)


def shard_numbers(shards: Location) -> npt.NDArray[np.int64]:
    """Sorted numbers of the shards that are there already."""
    matches = map(SHARD_NAME.fullmatch, shards.names())
    return np.array(sorted(int(match[1]) for match in matches if match), np.int64)


def committed_shards(shards: Location) -> npt.NDArray[np.int64]:
    """The same, and what a killed writer left behind is removed."""
    for name in shards.names():
        if name.startswith(TEMPORARY_PREFIX):
            shards.filesystem.delete_file((shards / name).path)
    return shard_numbers(shards)


def gather_parts(plan: InputPlan, shards: Location, parts: Location, schema: pa.Schema, rows_per_file: int) -> None:
    """Stream all shards, in order, into part files of `rows_per_file` rows. Memory: about one row group.

    Raises:
        OutputError: a shard is missing or does not hold the rows the plan says.
    """
    groups = _row_groups(read_shard_rows(plan, shards), schema, rows_per_file)
    group = next(groups)
    num_parts = 0
    while group is not None:
        with part_file(parts, num_parts).atomic_writer() as stream:
            group = _write_part(stream, schema, group, groups, rows_per_file)
        num_parts += 1
    for surplus in part_files(parts)[num_parts:]:
        surplus.filesystem.delete_file(surplus.path)


def _write_part(
    stream: pa.NativeFile, schema: pa.Schema, group: pa.Table | None, groups: Iterator[pa.Table], rows_per_file: int
) -> pa.Table | None:
    """Write row groups until the file is full; return the first group of the next file, if there is one."""
    num_rows = 0
    with pq.ParquetWriter(stream, schema) as writer:
        while group is not None:
            writer.write_table(group, row_group_size=max(1, group.num_rows))
            num_rows += group.num_rows
            group = next(groups, None)
            if num_rows == rows_per_file:
                break
    return group


def _row_groups(tables: Iterator[pa.Table], schema: pa.Schema, rows_per_file: int) -> Iterator[pa.Table]:
    """Cut the stream into row groups of a decent size, none across a file's end; at least one, if empty."""
    waiting: list[pa.Table] = []
    room, is_first = rows_per_file, True
    for table in tables:
        while table.num_rows:
            head = table.slice(0, room)
            table, room = table.slice(head.num_rows), room - head.num_rows
            waiting.append(head)
            if room == 0 or _is_full(waiting):
                yield pa.concat_tables(waiting)
                waiting, is_first, room = [], False, room or rows_per_file
    if waiting or is_first:
        yield pa.concat_tables(waiting) if waiting else schema.empty_table()


def _is_full(tables: list[pa.Table]) -> bool:
    return sum(t.num_rows for t in tables) >= GROUP_ROWS or sum(t.nbytes for t in tables) >= GROUP_BYTES


def read_shard_rows(plan: InputPlan, shards: Location) -> Iterator[pa.Table]:
    """Every shard's rows in order, checked against the plan: each input row exactly once."""
    for number in range(plan.num_shards):
        shard, location = plan.shard(number), shard_file(shards, number)
        try:
            with pq.ParquetFile(location.path, filesystem=location.filesystem) as file:
                table = file.read()
        except OSError as error:
            raise OutputError(f"shard {str(location)!r} cannot be read: {' '.join(str(error).split())}") from None
        except pa.ArrowException:  # as a machine that lost power may leave a file: renamed, but never written out
            location.filesystem.delete_file(location.path)
            raise OutputError(
                f"shard {str(location)!r} was damaged and is removed; start the same command again"
            ) from None
        metadata = dict(table.schema.metadata or {})
        first_row = int(metadata.pop(FIRST_ROW_KEY, b"-1"))
        if (first_row, table.num_rows) != (shard.first_row, shard.num_rows):
            raise OutputError(
                f"shard {str(location)!r} holds {table.num_rows} rows from row {first_row} on, "
                f"not {shard.num_rows} from row {shard.first_row} on; delete it and start again"
            )
        yield table.replace_schema_metadata(metadata or None)
