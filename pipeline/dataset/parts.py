"""Part files, the output: `part-00000.parquet`, … in input order, gathered from committed shards.

Invariants: part i holds the rows [i * rows_per_file, (i + 1) * rows_per_file), so parts can be gathered in any order
and by any number of tasks; the names of one output are equally wide, so whoever sorts them by text has the input's
order; shards are deleted only after every part file is in place, so a run killed anywhere can be finished by starting
it again.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset.plan import InputPlan, Span
from pipeline.dataset.shards import read_shard_rows
from pipeline.storage import Location

PART_NAME = re.compile(r"part-(\d+)\.parquet")
LEAST_DIGITS = 5
ROWS_PER_TASK = 100_000  # at least; fewer rows are not worth a task of their own
GROUP_ROWS = 8192
GROUP_BYTES = 64 << 20


def part_file(parts: Location, number: int, num_parts: int = 1) -> Location:
    """The place of part `number` of `num_parts`."""
    digits = max(LEAST_DIGITS, len(str(num_parts - 1)))
    return parts / f"part-{number:0{digits}d}.parquet"


def part_files(parts: Location) -> list[Location]:
    """The part files that are there, in order."""
    numbers = {name: int(match[1]) for name in parts.names() if (match := PART_NAME.fullmatch(name))}
    return [parts / name for name in sorted(numbers, key=lambda name: numbers[name])]


@dataclass(frozen=True, slots=True)
class Gathering:
    """What becomes of a stage's shards: part files of `rows_per_file` rows in `parts`. Pickles, as tasks need."""

    plan: InputPlan
    shards: Location
    parts: Location
    schema: pa.Schema
    rows_per_file: int

    @property
    def num_parts(self) -> int:
        """At least one: an output without a row has a schema."""
        return max(1, -(-self.plan.num_rows // self.rows_per_file))

    def tasks(self) -> Iterator[range]:
        """All part numbers, in ranges for one task each."""
        size = max(1, ROWS_PER_TASK // self.rows_per_file)
        for first in range(0, self.num_parts, size):
            yield range(first, min(first + size, self.num_parts))

    def gather(self, numbers: range) -> None:
        """Write these parts, each whole or not at all. Memory: about one shard and one row group.

        Raises:
            OutputError: a shard is missing or does not hold the rows the plan says; a part cannot be written.
        """
        first_row = numbers.start * self.rows_per_file
        span = Span(first_row, min(numbers.stop * self.rows_per_file, self.plan.num_rows))
        groups = _row_groups(read_shard_rows(self.plan, self.shards, span), self.schema, self.rows_per_file)
        group: pa.Table | None = next(groups)
        for number in numbers:
            assert group is not None
            with part_file(self.parts, number, self.num_parts).atomic_writer() as stream:
                group = _write_part(stream, self.schema, group, groups, self.rows_per_file)

    def finish(self) -> None:
        """Delete part files that are none of these, as another version or another `rows_per_file` may leave them."""
        wanted = {part_file(self.parts, number, self.num_parts).name for number in range(self.num_parts)}
        for part in part_files(self.parts):
            if part.name not in wanted:
                part.filesystem.delete_file(part.path)


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
