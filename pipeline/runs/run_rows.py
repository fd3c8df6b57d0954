"""The good rows of a finished run in memory, in the types that a comparison or a calibration computes with."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.dataset.schema import RESULT_FIELDS
from pipeline.errors import InputError
from pipeline.runs.outputs import RunFacts, finished_run

Floats = npt.NDArray[np.float64]
COLUMNS = (
    *("response", "reward", "prompt_reward", "finish_reason", "segments", "error_type"),
    *("num_response_tokens", "num_policy_tokens", "num_reward_tokens", "num_policy_calls", "num_reward_calls"),
)
TYPES = {field.name: field.type for field in RESULT_FIELDS}
MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))


@dataclass(frozen=True)
class RunRows:
    """The good rows of one run. `table` has the columns id, prompt, messages, max_new_tokens and COLUMNS."""

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


def read_run(output: str) -> RunRows:
    """The rows of a finished run, in memory: what a comparison or a calibration works on.

    Raises:
        InputError: see `finished_run`; or it holds no row.
    """
    run = finished_run(output)
    names = (run.facts.id_column, run.facts.prompt_column, run.facts.messages_column, run.facts.sampling_params_column)
    tables, num_rows, errors = [], 0, Counter[str]()
    for batch in run.aligned.batches([*names, *COLUMNS]):
        num_rows += batch.num_rows
        errors.update(kind for kind in batch.column("error_type").to_pylist() if kind is not None)
        tables.append(_good_rows(pa.Table.from_batches([batch]), run.facts))
    if not tables:
        raise InputError(f"{output!r} holds no row")
    return RunRows(output, run.facts, pa.concat_tables(tables), num_rows, dict(sorted(errors.items())))


def _good_rows(table: pa.Table, facts: RunFacts) -> pa.Table:
    good = table.filter(pc.is_null(table.column("error_type")))
    messages = _column(good, facts.messages_column, MESSAGES)
    text_only = good.filter(pc.is_null(messages))  # beside messages a prompt is not looked at, and may be no text
    prompts = _column(text_only, facts.prompt_column, pa.string())
    named = {
        "id": pc.cast(good.column(facts.id_column), pa.string()),
        "prompt": pc.replace_with_mask(pa.nulls(good.num_rows, pa.string()), pc.is_null(messages), prompts),
        "messages": messages,
        "max_new_tokens": _max_new_tokens(good, facts),
    }
    return pa.table(named | {name: _column(good, name, TYPES[name]) for name in COLUMNS})


def _column(table: pa.Table, name: str, data_type: pa.DataType) -> Any:
    """A column in the one type that is compared; nulls where the output has none."""
    if name not in table.column_names:
        return pa.nulls(table.num_rows, data_type)
    column = table.column(name).combine_chunks()
    if column.type == data_type:
        return column
    if data_type == MESSAGES:  # turns may carry other keys
        turns = column.to_pylist()
        plain = [t and [{"role": m["role"], "content": m["content"]} for m in t] for t in turns]
        return pa.array(plain, MESSAGES)
    return pc.cast(column, data_type)


def _max_new_tokens(table: pa.Table, facts: RunFacts) -> pa.Array:
    """The row's own, or that of the config."""
    default = pa.array([facts.generation.get("max_new_tokens")] * table.num_rows, pa.int64())
    name = facts.sampling_params_column
    data_type = table.schema.field(name).type if name in table.column_names else pa.null()
    if not pa.types.is_struct(data_type) or data_type.get_field_index("max_new_tokens") < 0:
        return default
    own = pc.struct_field(table.column(name).combine_chunks(), "max_new_tokens")
    return pc.coalesce(pc.cast(own, pa.int64()), default)
