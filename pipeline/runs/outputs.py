"""The one reader of what runs have written: which files hold a stage's rows, whether they are all there, and which
columns a row has.

Invariants: rows come in input order and are streamed; nothing is read of a stage that is not gathered, or by its path
of a run that is not finished; error rows' prompts, which may not even be text, are never looked at.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.config.align import AlignConfig, ColumnNames
from pipeline.config.model import with_revisions
from pipeline.dataset.parts import part_files
from pipeline.errors import InputError, OutputError
from pipeline.runs.fingerprint import INPUT_ROWS
from pipeline.runs.manifest import Manifest, read_manifest
from pipeline.storage import Location, locate

BATCH_ROWS = 1024


class OutputRow:
    """One row, whose cells are read when they are asked for. A column that the output does not have is None."""

    def __init__(self, batch: pa.RecordBatch, index: int) -> None:
        self._batch = batch
        self._index = index

    def __getitem__(self, name: str) -> Any:
        return self._batch.column(name)[self._index].as_py() if name in self._batch.schema.names else None

    @property
    def is_error(self) -> bool:
        return self["error_type"] is not None

    def messages(self, names: ColumnNames) -> list[dict[str, str]]:
        """The conversation; a text prompt is one user turn, and is not looked at where there are messages."""
        return self[names.messages_column] or [{"role": "user", "content": self[names.prompt_column] or ""}]


@dataclass(frozen=True, slots=True)
class StageOutput:
    """The rows of one gathered stage, in these files, in this order. Pickles, as tasks need."""

    files: tuple[Location, ...]

    def schema(self) -> pa.Schema:
        return pq.read_schema(self.files[0].path, filesystem=self.files[0].filesystem)

    def num_rows(self) -> int:
        return sum(pq.read_metadata(file.path, filesystem=file.filesystem).num_rows for file in self.files)

    def batches(self, columns: Sequence[str], batch_rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """These columns, those of them that are there."""
        for location in self.files:
            with pq.ParquetFile(location.path, filesystem=location.filesystem) as file:
                present = [name for name in columns if name in file.schema_arrow.names]
                yield from file.iter_batches(batch_rows, columns=present)

    def rows(self, columns: Sequence[str], batch_rows: int = BATCH_ROWS) -> Iterator[OutputRow]:
        """Every row, with these columns and its `error_type`."""
        for batch in self.batches([*columns, "error_type"], batch_rows):
            yield from (OutputRow(batch, index) for index in range(batch.num_rows))

    def row_groups(self, columns: Sequence[str]) -> Iterator[tuple[int, pa.Table]]:
        """These columns, in this order, of every row group, with the index of its first row."""
        first_row = 0
        for location in self.files:
            with pq.ParquetFile(location.path, filesystem=location.filesystem) as file:
                for group in range(file.num_row_groups):
                    table = file.read_row_group(group, columns=list(columns)).select(list(columns))
                    yield first_row, table
                    first_row += table.num_rows


def stage_output(manifest: Manifest, name: str, parts: Location) -> StageOutput:
    """The rows of a stage of a run.

    Raises:
        OutputError: they are not all gathered.
    """
    if not manifest.is_gathered(name):
        raise OutputError(f"the {name} rows in {str(parts)!r} are not all gathered; start the run's command again")
    return StageOutput(tuple(part_files(parts)))


class RunFacts(BaseModel):
    """What of a run's own config.yaml is needed here; all else is let be, so runs of other versions can be read."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    input: str
    seed: int
    id_column: str
    prompt_column: str
    messages_column: str
    sampling_params_column: str = "sampling_params"
    prompt_as: Literal["user_message", "raw"]
    policy: dict[str, Any]
    strategy: dict[str, Any]
    generation: dict[str, Any] = {}

    @property
    def policy_name(self) -> str:
        return self.policy.get("model") or self.policy.get("backend") or "unknown"

    @property
    def dataset_name(self) -> str:
        return Path(self.input).stem


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A run that can be read: its facts, its whole config as its `config.yaml` has it, and its aligned rows."""

    root: Location
    manifest: Manifest
    facts: RunFacts
    tree: dict[str, Any]
    aligned: StageOutput

    @property
    def config(self) -> AlignConfig:
        """With the commits of its models.

        Raises:
            InputError: it is of a version whose keys are other ones.
        """
        try:
            config = AlignConfig.model_validate(self.tree)
        except ValidationError as error:
            problem = error.errors()[0]
            field = ".".join(map(str, problem["loc"]))
            raise InputError(f"{f'{self.root}/_run/config.yaml'!r}: {field}: {problem['msg']}") from None
        return with_revisions(config, self.manifest.commit_of)


def finished_run(output: str) -> FinishedRun:
    """The finished run in a directory.

    Raises:
        InputError: there is none, it is not finished, or rows of it are gone.
    """
    try:
        root = locate(output)
        manifest, config = read_manifest(root), root / "_run" / "config.yaml"
        if manifest is None or not config.exists():
            raise InputError(f"{output!r} holds no run of jobs.align: no _run/manifest.json and _run/config.yaml")
        tree = yaml.safe_load(config.read_text())
        facts = RunFacts.model_validate(tree)
    except (OSError, OutputError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{output!r} holds no run of jobs.align: {' '.join(str(error).split())[:200]}") from None
    if not manifest.is_finished:
        raise InputError(f"the run in {output!r} is not finished; start its command again")
    run = FinishedRun(root, manifest, facts, tree, StageOutput(tuple(part_files(root))))
    num_rows, wanted = run.aligned.num_rows(), manifest.fingerprint.get(INPUT_ROWS)
    if wanted is not None and num_rows != wanted:
        raise InputError(f"the part files in {output!r} hold {num_rows} rows, not the {wanted} that the run wrote")
    return run
