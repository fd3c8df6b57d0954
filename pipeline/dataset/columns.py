"""Which input columns mean something to us, checked against the files' schema before anything heavy loads."""

import difflib
from dataclasses import dataclass

import pyarrow as pa

from pipeline.config.align import AlignConfig, ColumnNames
from pipeline.dataset.schema import result_fields
from pipeline.errors import InputError

DEFAULT_ID_COLUMN = ColumnNames.model_fields["id_column"].default


@dataclass(frozen=True, slots=True)
class InputColumns:
    """Column names; None where the input has no such column. `adds_id`: the id column is ours, file and position."""

    id: str
    adds_id: bool
    prompt: str | None
    messages: str | None
    sampling_params: str | None


def check_columns(schema: pa.Schema, config: AlignConfig) -> InputColumns:
    """The input's columns, for a run that adds its own.

    Raises:
        InputError: see `find_columns`; or an input column has the name of an output column.
    """
    columns = find_columns(schema, config)
    for name in config.reward.columns:
        if name not in schema.names:
            _refuse_missing(schema, "reward", name)
    ours = result_fields(config.strategy.name, config.keep_rejected)
    taken = [field.name for field in ours if field.name in schema.names]
    if taken:
        raise InputError(f"input column {taken[0]!r} has the name of an output column; rename it in the input")
    return columns


def find_columns(schema: pa.Schema, names: ColumnNames) -> InputColumns:
    """Find the prompt, id and option columns and refuse what cannot work.

    Raises:
        InputError: a column is missing, or of a type that cannot hold what it should.
    """
    prompt = _optional(schema, names.prompt_column)
    messages = _optional(schema, names.messages_column)
    if prompt is None and messages is None:
        near = _nearest(names.prompt_column, schema) or _nearest(names.messages_column, schema)
        hint = f"; did you mean {near!r}?" if near else ""
        raise InputError(
            f"prompt_column: the input has neither a column {names.prompt_column!r} nor {names.messages_column!r}"
            f"{hint}; its columns: {', '.join(map(repr, schema.names)) or 'none'}"
        )
    for key in ("prompt_column", "messages_column", "sampling_params_column"):
        _required_unless_default(schema, names, key)
    columns = InputColumns(
        id=names.id_column,
        adds_id=_adds_id(schema, names),
        prompt=prompt,
        messages=messages,
        sampling_params=_optional(schema, names.sampling_params_column),
    )
    _check_id_type(schema, columns)
    return columns


def input_schema(schema: pa.Schema, columns: InputColumns) -> pa.Schema:
    """The columns as they travel: the files' own, and an id column where they have none."""
    return schema.append(pa.field(columns.id, pa.string())) if columns.adds_id else schema


def is_text(data_type: pa.DataType) -> bool:
    if pa.types.is_dictionary(data_type):
        data_type = data_type.value_type
    types = pa.types
    return types.is_string(data_type) or types.is_large_string(data_type) or types.is_string_view(data_type)


def _optional(schema: pa.Schema, name: str) -> str | None:
    return name if name in schema.names else None


def _required_unless_default(schema: pa.Schema, names: ColumnNames, key: str) -> None:
    name = getattr(names, key)
    if name not in schema.names and name != ColumnNames.model_fields[key].default:
        _refuse_missing(schema, key, name)


def _adds_id(schema: pa.Schema, names: ColumnNames) -> bool:
    if names.id_column in schema.names:
        return False
    if names.id_column != DEFAULT_ID_COLUMN:
        _refuse_missing(schema, "id_column", names.id_column)
    return True


def _refuse_missing(schema: pa.Schema, key: str, name: str) -> None:
    near = _nearest(name, schema)
    hint = f"did you mean {near!r}?" if near else f"columns: {', '.join(map(repr, schema.names)) or 'none'}"
    raise InputError(f"{key}: the input has no column {name!r}; {hint}")


def _nearest(name: str, schema: pa.Schema) -> str | None:
    return next(iter(difflib.get_close_matches(name, schema.names, n=1, cutoff=0.5)), None)


def _check_id_type(schema: pa.Schema, columns: InputColumns) -> None:
    """Ids must be comparable. Prompts of any type are read: one that is not text is its row's own fault."""
    if columns.adds_id:
        return
    data_type = schema.field(columns.id).type
    if not (pa.types.is_null(data_type) or _is_id(data_type)):
        raise InputError(f"input column {columns.id!r} is {data_type}; it must be text or numbers")


def _is_id(data_type: pa.DataType) -> bool:
    return is_text(data_type) or pa.types.is_integer(data_type) or pa.types.is_floating(data_type)
