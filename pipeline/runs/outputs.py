"""What an aligned output holds, read for comparing: good rows only, in input order; error rows are counted.

Error rows' prompts, which may not even be text, are never looked at.
"""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter

from pipeline.dataset.parts import part_files
from pipeline.errors import InputError
from pipeline.runs.manifest import Manifest
from pipeline.storage import Location, locate

Floats = npt.NDArray[np.float64]
FIGURES = ("reward", "num_response_tokens", "num_policy_tokens", "num_reward_tokens", "num_policy_calls")
COLUMNS = (*FIGURES, "num_reward_calls", "response", "finish_reason", "segments", "error_type")


class RunFacts(BaseModel):
    """What of a run's own config.yaml is needed here; all else is let be, so runs of other versions can be read."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    input: str
    seed: int
    id_column: str
    prompt_column: str
    messages_column: str
    prompt_as: Literal["user_message", "raw"]
    policy: dict[str, Any]
    strategy: dict[str, Any]

    @property
    def policy_name(self) -> str:
        return self.policy.get("model") or self.policy.get("backend") or "unknown"

    @property
    def dataset_name(self) -> str:
        return Path(self.input).stem


@dataclass(frozen=True)
class RunRows:
    """The good rows of one run. `table` has the columns id, prompt, messages and COLUMNS."""

    output: str
    facts: RunFacts
    table: pa.Table
    num_rows: int
    error_rows_by_type: dict[str, int]

    @property
    def seed(self) -> int:
        return self.facts.seed

    @property
    def num_error_rows(self) -> int:
        return sum(self.error_rows_by_type.values())

    @cached_property
    def ids(self) -> list[str]:
        return self.table.column("id").to_pylist()

    @cached_property
    def responses(self) -> list[str]:
        return self.table.column("response").to_pylist()

    @cached_property
    def conversations(self) -> list[list[dict[str, str]]]:
        """Each row's messages; a text prompt is one user turn."""
        both = zip(self.table.column("prompt").to_pylist(), self.table.column("messages").to_pylist(), strict=True)
        return [messages or [{"role": "user", "content": prompt or ""}] for prompt, messages in both]

    @cached_property
    def questions(self) -> list[str]:
        """What the user asked last, row by row."""
        return [conversation[-1]["content"] for conversation in self.conversations]

    @property
    def is_stopped(self) -> npt.NDArray[np.bool_]:
        """Whether a response ended by itself, [R]."""
        return pc.equal(self.table.column("finish_reason"), "stop").to_numpy()

    def figure(self, name: str) -> Floats:
        """A numeric column, float64 [R]."""
        return self.table.column(name).to_numpy().astype(np.float64)


def open_run(contender: str, output: str) -> tuple[Location, RunFacts]:
    """Where the finished run in a directory is, and its facts.

    Raises:
        InputError: there is none, or it is not finished.
    """
    try:
        root = locate(output)
        manifest = TypeAdapter(Manifest).validate_json((root / "_run" / "manifest.json").read_text())
        facts = RunFacts.model_validate(yaml.safe_load((root / "_run" / "config.yaml").read_text()))
    except (OSError, ValueError) as error:
        raise InputError(f"contenders.{contender}: {output!r} holds no run of jobs.align: {_line(error)}") from None
    if manifest.status != "finished":
        raise InputError(f"contenders.{contender}: the run in {output!r} is not finished; start its command again")
    return root, facts


def read_run(contender: str, output: str) -> RunRows:
    """The rows of a finished run; raises InputError where there is none."""
    root, facts = open_run(contender, output)
    tables, num_rows, errors = [], 0, Counter[str]()
    for location in part_files(root):
        with pq.ParquetFile(location.path, filesystem=location.filesystem) as file:
            for batch in file.iter_batches(columns=_present(file.schema_arrow.names, facts)):
                num_rows += batch.num_rows
                errors.update(kind for kind in batch.column("error_type").to_pylist() if kind is not None)
                tables.append(_good_rows(pa.Table.from_batches([batch]), facts))
    if not tables:
        raise InputError(f"contenders.{contender}: {output!r} holds no row")
    return RunRows(output, facts, pa.concat_tables(tables), num_rows, dict(sorted(errors.items())))


def _present(names: list[str], facts: RunFacts) -> list[str]:
    wanted = (facts.id_column, facts.prompt_column, facts.messages_column, *COLUMNS)
    return [name for name in wanted if name in names]


def _good_rows(table: pa.Table, facts: RunFacts) -> pa.Table:
    good = table.filter(pc.is_null(table.column("error_type")))
    named = {
        "id": pc.cast(good.column(facts.id_column), pa.string()),
        "prompt": _column(good, facts.prompt_column, pa.string()),
        "messages": _column(good, facts.messages_column, MESSAGES),
    }
    return pa.table(named | {name: good.column(name) for name in COLUMNS})


MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))


def _column(table: pa.Table, name: str, data_type: pa.DataType) -> Any:
    """A column in the one type that is compared; nulls where the input has none."""
    if name not in table.column_names:
        return pa.nulls(table.num_rows, data_type)
    column = table.column(name)
    if column.type == data_type:
        return column
    if data_type == MESSAGES:  # turns may carry other keys
        turns = column.to_pylist()
        plain = [t and [{"role": m["role"], "content": m["content"]} for m in t] for t in turns]
        return pa.array(plain, MESSAGES)
    return pc.cast(column, data_type)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
