"""Exports a run's output as one file of preference pairs: streamed, and written atomically."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from pydantic import ValidationError

from jobs.export_pairs.preference_pairs import PAIRS, ConversationalFormat, Level, PairFormat
from pipeline.config.align import AlignConfig
from pipeline.dataset.parts import part_files
from pipeline.errors import ConfigError, InputError, OutputError
from pipeline.storage import Location, locate

READ_BATCH_ROWS = 64
WRITE_BATCH_PAIRS = 1024


@dataclass(slots=True)
class ExportCounts:
    """What became of a run's rows. `num_unordered` pairs are left out: the chosen reward is not the higher one."""

    num_rows: int = 0
    num_pairs: int = 0
    num_unordered: int = 0


def export_pairs(run: str, output: str, level: Level) -> ExportCounts:
    """Write the pairs of a finished run to `output`, .parquet or .jsonl.

    Raises:
        InputError: the run is not finished, kept no rejected candidates, or holds no pair of this level.
        OutputError: the output cannot be written, or exists already.
        ConfigError: the output's name has no known ending, or the run's policy has no tokenizer.
    """
    root, target = _locate(run), _locate(output)
    if target.name.rpartition(".")[2] not in ("parquet", "jsonl"):
        raise ConfigError(f"output {output!r} must end with .parquet or .jsonl")
    if target.exists():
        raise OutputError(f"output {output!r} exists already; choose another name")
    config, parts = _run_config(root, run), part_files(root)
    if not parts:
        raise InputError(f"run {run!r} is not finished: it holds no part files yet")
    if not config.keep_rejected:
        raise InputError(f"run {run!r} kept no rejected candidates; align again with keep_rejected=true")
    counts = ExportCounts()
    pair_format = _format(config, level, pq.read_schema(parts[0].path, filesystem=root.filesystem))
    with target.atomic_writer() as stream, _writer(stream, target.name, pair_format.schema) as write:
        records = _records(parts, config, level, pair_format, counts)
        while group := list(islice(records, WRITE_BATCH_PAIRS)):
            write(group)
        if not counts.num_pairs:
            raise InputError(f"run {run!r} holds no pair of level {level} ({counts.num_rows} rows read)")
    return counts


def _locate(text: str) -> Location:
    try:
        return locate(text)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{text!r} cannot be looked at: {' '.join(str(error).split())}") from None


def _run_config(root: Location, run: str) -> AlignConfig:
    location = root / "_run" / "config.yaml"
    if not location.exists():
        raise InputError(f"{run!r} is no run directory: it holds no _run/config.yaml")
    try:
        return AlignConfig.model_validate(yaml.safe_load(location.read_text()))
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(map(str, problem["loc"]))
        raise InputError(f"{str(location)!r}: {field}: {problem['msg']}") from None


def _format(config: AlignConfig, level: Level, schema: pa.Schema) -> PairFormat:
    """Conversations for whole responses where the input had `messages`; rendered text for all else."""
    if level == "response" and config.messages_column in schema.names:
        return ConversationalFormat()
    from jobs.export_pairs.prompt_text import prompt_text  # imports transformers

    return prompt_text(config)


def _records(
    parts: list[Location], config: AlignConfig, level: Level, pair_format: PairFormat, counts: ExportCounts
) -> Iterator[dict[str, Any]]:
    for row in _rows(parts, config):
        counts.num_rows += 1
        messages = row[config.messages_column] or [{"role": "user", "content": row[config.prompt_column]}]
        for pair in PAIRS[level](row, messages) if row["error_type"] is None else ():
            if pair.is_ordered:
                counts.num_pairs += 1
                yield pair_format.record(pair)
            else:
                counts.num_unordered += 1


def _rows(parts: list[Location], config: AlignConfig) -> Iterator[dict[str, Any]]:
    """Rows with the columns that pairs are made of; an absent prompt or messages column is all None."""
    wanted = (config.prompt_column, config.messages_column)
    for part in parts:
        with pq.ParquetFile(part.path, filesystem=part.filesystem) as file:
            found = [name for name in (config.id_column, *wanted) if name in file.schema_arrow.names]
            columns = [*found, "response", "reward", "finish_reason", "candidates", "error_type"]
            for batch in file.iter_batches(READ_BATCH_ROWS, columns=columns):
                for i in range(batch.num_rows):
                    yield _row(batch, i, config, wanted)


def _row(batch: pa.RecordBatch, i: int, config: AlignConfig, wanted: tuple[str, str]) -> dict[str, Any]:
    """One row as Python values; an error row's prompt is not read, because it may not even be text."""
    if batch.column("error_type")[i].is_valid:
        return dict.fromkeys(wanted) | {"error_type": batch.column("error_type")[i].as_py()}
    row = {name: batch.column(name)[i].as_py() for name in batch.schema.names}
    return dict.fromkeys(wanted) | row | {"id": row[config.id_column]}


@contextmanager
def _writer(stream: Any, name: str, schema: pa.Schema) -> Iterator[Any]:
    """A function that writes a list of records in the format that the file's name says."""
    if name.endswith(".jsonl"):
        yield lambda records: stream.write("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records).encode())
    else:
        with pq.ParquetWriter(stream, schema) as writer:
            yield lambda records: writer.write_table(pa.Table.from_pylist(records, schema))
