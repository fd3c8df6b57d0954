"""The input as a plan: which files, how many rows, one schema. Only footers are read here.

Invariants: files are sorted by path and rows keep their order in the file, so a row's index in the whole input is
fixed by the input alone. Shard i is the rows [i * rows_per_shard, (i + 1) * rows_per_shard) and may cross files.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from pipeline.dataset.files import find_files
from pipeline.errors import InputError
from pipeline.storage import Location

MAX_GROUPS_PER_SPAN = 256  # a span of many tiny files or row groups still starts to yield soon
MIN_ROWS_PER_SHARD = 16
MAX_SHARDS = 4_000  # a kill costs the work of a few shards; Ray Data writes some seven a second
ROWS_PER_SHARD_AND_CELL = 8  # Ray Data's dispatch is a few shards a second, however many cells wait for it
MIN_SHARDS_PER_CELL = 8  # or cells would run dry at different times


@dataclass(frozen=True, slots=True)
class InputFile:
    """One Parquet file: `first_row` is its place in the whole input, `relative_path` names it in default ids.

    `digest` tells its content apart from another's (`Location.sampled_digest`).
    """

    path: str
    relative_path: str
    digest: str
    first_row: int
    group_rows: tuple[int, ...]

    @property
    def num_rows(self) -> int:
        return sum(self.group_rows)


@dataclass(frozen=True, slots=True)
class Shard:
    """Consecutive input rows that travel, finish and are committed together."""

    number: int
    first_row: int
    num_rows: int


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive input rows [first_row, end_row)."""

    first_row: int
    end_row: int


@dataclass(frozen=True, slots=True)
class InputPlan:
    """`num_rows` may be less than the files hold (`max_rows`); `schema` is the files' schema, unified."""

    filesystem: fs.FileSystem
    files: tuple[InputFile, ...]
    schema: pa.Schema
    num_rows: int
    rows_per_shard: int

    @property
    def num_shards(self) -> int:
        return -(-self.num_rows // self.rows_per_shard)

    def shard(self, number: int) -> Shard:
        first_row = number * self.rows_per_shard
        return Shard(number, first_row, min(self.rows_per_shard, self.num_rows - first_row))

    def head(self, num_rows: int) -> "InputPlan":
        """The plan of the first `num_rows` rows only."""
        return replace(self, num_rows=min(self.num_rows, num_rows))

    def spans(self, read_rows: int) -> Iterator[Span]:
        """Spans for one reading task each: cut where row groups end, rounded down to a shard, so that little is decoded
        twice."""
        first_row = row = num_groups = 0
        for group_rows in (n for file in self.files for n in file.group_rows):
            row, num_groups = min(row + group_rows, self.num_rows), num_groups + 1
            end_row = row - row % self.rows_per_shard
            if end_row > first_row and (end_row - first_row >= read_rows or num_groups >= MAX_GROUPS_PER_SPAN):
                yield Span(first_row, end_row)
                first_row, num_groups = end_row, 0
        if first_row < self.num_rows:
            yield Span(first_row, self.num_rows)


def plan_input(text: str, rows_per_shard: int | None, max_rows: int | None, cells: int = 1) -> InputPlan:
    """Find the Parquet files `text` names (a file, a directory, a glob), which `cells` cells share; read their footers.

    Raises:
        InputError: nothing there, a file that is not Parquet, schemas that do not fit together.
    """
    try:
        filesystem, found = find_files(text)
        with ThreadPoolExecutor(max_workers=16) as pool:
            footers = list(pool.map(lambda info: _read_footer(filesystem, info[0]), found))
    except (OSError, ValueError) as error:
        raise InputError(f"input {text!r} cannot be read: {_one_line(error)}") from None
    files, first_row = [], 0
    for (info, relative_path), (_, group_rows, digest) in zip(found, footers, strict=True):
        files.append(InputFile(info.path, relative_path, digest, first_row, group_rows))
        first_row += files[-1].num_rows
    schema = _unify([(file.relative_path, footer[0]) for file, footer in zip(files, footers, strict=True)])
    num_rows = first_row if max_rows is None else min(first_row, max_rows)
    rows_per_shard = rows_per_shard or default_rows_per_shard(num_rows, cells)
    return InputPlan(filesystem, tuple(files), schema, num_rows, rows_per_shard)


def default_rows_per_shard(num_rows: int, cells: int = 1) -> int:
    """More for more cells, as far as every cell still gets several shards, and for inputs of many rows."""
    for_cells = min(ROWS_PER_SHARD_AND_CELL * cells, num_rows // (MIN_SHARDS_PER_CELL * cells))
    return max(MIN_ROWS_PER_SHARD, for_cells, -(-num_rows // MAX_SHARDS))


def plan_file(location: Location, rows_per_shard: int) -> InputPlan:
    """The plan of one file of our own."""
    schema, group_rows, digest = _read_footer(location.filesystem, location.filesystem.get_file_info(location.path))
    file = InputFile(location.path, location.name, digest, 0, group_rows)
    return InputPlan(location.filesystem, (file,), schema, file.num_rows, rows_per_shard)


def _read_footer(filesystem: fs.FileSystem, info: fs.FileInfo) -> tuple[pa.Schema, tuple[int, ...], str]:
    if info.size == 0:
        raise InputError(f"input file {info.path!r} is empty, not Parquet")
    try:
        with pq.ParquetFile(info.path, filesystem=filesystem) as file:
            metadata = file.metadata
            groups = tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))
            return file.schema_arrow, groups, Location(filesystem, info.path).sampled_digest()
    except pa.ArrowException as error:
        raise InputError(f"input file {info.path!r} is not a readable Parquet file: {_one_line(error)}") from None
    except OSError as error:
        raise InputError(f"input file {info.path!r} cannot be read: {_one_line(error)}") from None


def _unify(schemas: list[tuple[str, pa.Schema]]) -> pa.Schema:
    """One schema for all files: missing columns become null, types widen where no value can change."""
    unified: pa.Schema | None = None
    for name, schema in schemas:
        twice = next((n for n in schema.names if schema.names.count(n) > 1), None)
        if twice is not None:
            raise InputError(f"input file {name!r} has two columns named {twice!r}; rename one")
        if unified is None or schema.equals(unified):
            unified = unified or schema
            continue
        for field in schema:
            if field.name in unified.names and not _fits(unified.field(field.name), field):
                raise InputError(
                    f"input file {name!r}: column {field.name!r} is {field.type}, "
                    f"but {unified.field(field.name).type} in the files before it"
                )
        unified = pa.unify_schemas([unified, schema], promote_options="permissive")
    assert unified is not None
    return unified


def _fits(before: pa.Field, field: pa.Field) -> bool:
    try:
        merged = pa.unify_schemas([pa.schema([before]), pa.schema([field])], promote_options="permissive").field(0).type
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return False
    types = (before.type, field.type)
    return not (pa.types.is_floating(merged) and any(pa.types.is_integer(t) for t in types))  # 2**53 + 1 would change


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
