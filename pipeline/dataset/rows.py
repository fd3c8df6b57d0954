"""From a table of input rows to checked PromptRows. Whatever is wrong with a row is found here and stays with the row.

Invariant: one PromptRow per input row, in order; a faulty one carries `error_type` and `error` and nothing to decode.
Only `role` and `content` of a turn are used; other keys of a turn (`name`, ids) do not reach the model.
"""

import difflib
from dataclasses import replace
from typing import Any

import pyarrow as pa
from pydantic import Field, ValidationError

from pipeline.config.decoding import GenerationConfig
from pipeline.dataset.columns import InputColumns
from pipeline.dataset.duplicates import RowIndices, id_values
from pipeline.errors import RowError
from pipeline.records import PromptRow

ROLES = ("system", "user", "assistant", "tool")


class RowSampling(GenerationConfig):
    """What a row's own `sampling_params` may hold: the generation knobs and a seed, in the ranges of the config."""

    seed: int = Field(0, ge=0, lt=2**63)


class _Undecodable:
    """Stands for text whose bytes are not UTF-8, which Arrow stores without complaint."""


UNDECODABLE = _Undecodable()


def check_rows(
    table: pa.Table, first_row: int, columns: InputColumns, duplicates: RowIndices, asked: tuple[str, ...] = ()
) -> list[PromptRow]:
    """One PromptRow per row of `table`, whose first row is the input's row `first_row`; with the columns `asked`."""
    repeated = set(duplicates[(duplicates >= first_row) & (duplicates < first_row + table.num_rows)].tolist())
    row_ids = id_values(table.column(columns.id))
    prompts, messages, sampling = (
        _values(table, name) for name in (columns.prompt, columns.messages, columns.sampling_params)
    )
    others = {name: _values(table, name) for name in asked}
    rows = []
    for i, row_id in enumerate(row_ids):
        text_id = None if row_id is None else row_id.decode("utf-8", "backslashreplace")
        row = check_row(first_row + i, text_id, prompts[i], messages[i], sampling[i])
        if row.error_type is None and row.row_index in repeated:
            row = _faulty(
                row.row_index, text_id, RowError("duplicate_id", f"an earlier row has the id {text_id!r} too")
            )
        rows.append(_with_columns(row, {name: values[i] for name, values in others.items()}) if others else row)
    return rows


def _with_columns(row: PromptRow, columns: dict[str, Any]) -> PromptRow:
    undecodable = next((name for name, value in columns.items() if value is UNDECODABLE), None)
    if undecodable is not None and row.error_type is None:
        fault = RowError("column_not_text", f"the column {undecodable!r} is not valid UTF-8")
        return _faulty(row.row_index, row.row_id, fault)
    return replace(row, columns=columns)


def check_row(row_index: int, row_id: str | None, prompt: Any, messages: Any, sampling_params: Any) -> PromptRow:
    """Check one row; `messages` wins where it is filled."""
    try:
        if row_id is None:
            raise RowError("null_id", "the id is null")
        overrides = _check_sampling(sampling_params)
        if messages is not None:
            return PromptRow(row_index, row_id, messages=_check_messages(messages), sampling_overrides=overrides)
        return PromptRow(row_index, row_id, prompt=_check_prompt(prompt), sampling_overrides=overrides)
    except RowError as error:
        return _faulty(row_index, row_id, error)


def _faulty(row_index: int, row_id: str | None, error: RowError) -> PromptRow:
    return PromptRow(row_index, row_id, error_type=error.error_type, error=error.message)


def _values(table: pa.Table, name: str | None) -> list[Any]:
    if name is None:
        return [None] * table.num_rows
    column = table.column(name)
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        return [_value(column, i) for i in range(table.num_rows)]


def _value(column: pa.ChunkedArray, i: int) -> Any:
    try:
        return column[i].as_py()
    except UnicodeDecodeError:
        return UNDECODABLE


def _check_prompt(prompt: Any) -> str:
    if prompt is None:
        raise RowError("null_prompt", "the prompt is null")
    if prompt is UNDECODABLE:
        raise RowError("prompt_not_text", "the prompt is not valid UTF-8")
    if not isinstance(prompt, str):
        raise RowError("prompt_not_text", f"the prompt is a {type(prompt).__name__}, not text")
    if not prompt.strip():
        raise RowError("empty_prompt", "the prompt is empty" if not prompt else "the prompt is only white space")
    return prompt


def _check_messages(messages: Any) -> tuple[dict[str, str], ...]:
    if messages is UNDECODABLE:
        raise RowError("bad_messages", "the messages are not valid UTF-8")
    if not isinstance(messages, list):
        raise RowError("bad_messages", f"the messages are a {type(messages).__name__}, not a list")
    if not messages:
        raise RowError("bad_messages", "the list of messages is empty")
    turns = tuple(_check_turn(number, turn) for number, turn in enumerate(messages))
    if turns[-1]["role"] != "user":
        raise RowError("bad_messages", f"the last turn is of role {turns[-1]['role']!r}, not 'user'")
    if not turns[-1]["content"].strip():
        raise RowError("empty_prompt", "the last user turn is empty")
    return turns


def _check_turn(number: int, turn: Any) -> dict[str, str]:
    if not isinstance(turn, dict):
        raise RowError("bad_messages", f"turn {number} is {_named(turn)}, not a record of role and content")
    role, content = turn.get("role"), turn.get("content")
    if role not in ROLES:
        near = difflib.get_close_matches(role, ROLES, n=1) if isinstance(role, str) else []
        hint = f"did you mean {near[0]!r}?" if near else f"known roles: {', '.join(ROLES)}"
        raise RowError("bad_messages", f"turn {number} has the role {role!r}; {hint}")
    if not isinstance(content, str):
        raise RowError("bad_messages", f"turn {number} has a content that is {_named(content)}, not text")
    return {"role": role, "content": content}


def _check_sampling(sampling_params: Any) -> dict[str, Any]:
    if sampling_params is None:
        return {}
    if not isinstance(sampling_params, dict):
        raise RowError("bad_sampling_params", f"sampling_params is {_named(sampling_params)}, not a struct")
    given = {name: value for name, value in sampling_params.items() if value is not None}
    try:
        return RowSampling.model_validate(given).model_dump(include=set(given))
    except ValidationError as error:
        raise RowError("bad_sampling_params", _describe(error)) from None


def _describe(error: ValidationError) -> str:
    problem = error.errors()[0]
    field = str(problem["loc"][0])
    if problem["type"] != "extra_forbidden":
        return f"sampling_params.{field}: {problem['msg']} (given: {problem['input']!r})"
    known = tuple(RowSampling.model_fields)
    near = difflib.get_close_matches(field, known, n=1)
    return f"sampling_params.{field}: unknown; " + (
        f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    )


def _named(value: Any) -> str:
    return "null" if value is None else f"a {type(value).__name__}"
