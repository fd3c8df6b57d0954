"""Exports a run's output as one file of preference pairs: streamed, and written atomically."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.export_pairs.preference_pairs import PAIRS, ConversationalFormat, Level, PairFormat, PreferencePair
from pipeline.config.align import AlignConfig
from pipeline.errors import ConfigError, InputError, OutputError
from pipeline.runs.outputs import OutputRow, StageOutput, finished_run
from pipeline.storage import Location, locate

PAIRED = ("response", "reward", "finish_reason", "candidates")
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
    target = _locate(output)
    if target.name.rpartition(".")[2] not in ("parquet", "jsonl"):
        raise ConfigError(f"output {output!r} must end with .parquet or .jsonl")
    if target.exists():
        raise OutputError(f"output {output!r} exists already; choose another name")
    found = finished_run(run)
    config = found.config
    if not config.keep_rejected:
        raise InputError(f"run {run!r} kept no rejected candidates; align again with keep_rejected=true")
    counts = ExportCounts()
    pair_format = _format(config, level, found.aligned.schema())
    with target.atomic_writer() as stream, _writer(stream, target.name, pair_format.schema) as write:
        records = _records(found.aligned, config, level, pair_format, counts)
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


def _format(config: AlignConfig, level: Level, schema: pa.Schema) -> PairFormat:
    """Conversations for whole responses where the input had `messages`; rendered text for all else."""
    if level == "response" and config.messages_column in schema.names:
        return ConversationalFormat()
    from jobs.export_pairs.prompt_text import prompt_text  # imports transformers

    return prompt_text(config)


def _records(
    output: StageOutput, config: AlignConfig, level: Level, pair_format: PairFormat, counts: ExportCounts
) -> Iterator[dict[str, Any]]:
    columns = (config.id_column, config.prompt_column, config.messages_column, *PAIRED)
    for row in output.rows(columns, READ_BATCH_ROWS):
        counts.num_rows += 1
        for pair in () if row.is_error else _pairs(row, config, level):
            if pair.is_ordered:
                counts.num_pairs += 1
                yield pair_format.record(pair)
            else:
                counts.num_unordered += 1


def _pairs(row: OutputRow, config: AlignConfig, level: Level) -> Iterator[PreferencePair]:
    cells = {name: row[name] for name in PAIRED}
    return PAIRS[level](cells | {"id": row[config.id_column]}, row.messages(config))


@contextmanager
def _writer(stream: Any, name: str, schema: pa.Schema) -> Iterator[Any]:
    """A function that writes a list of records in the format that the file's name says."""
    if name.endswith(".jsonl"):
        yield lambda records: stream.write("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records).encode())
    else:
        with pq.ParquetWriter(stream, schema) as writer:
            yield lambda records: writer.write_table(pa.Table.from_pylist(records, schema))
