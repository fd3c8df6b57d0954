"""What a field takes and what it is without being set, in words and in YAML."""

import types
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

ROOT = Path(__file__).parent.parent.parent
TAG_NAMES = {"name", "kind"}  # by which the sections of a choice are told apart
LARGEST_SPELT_OUT = 100_000
BOUNDS = (
    (annotated_types.Ge, "ge", "≥"),
    (annotated_types.Gt, "gt", ">"),
    (annotated_types.Le, "le", "≤"),
    (annotated_types.Lt, "lt", "<"),
)


def sections_of(annotation: Any) -> tuple[list[type[BaseModel]], str]:
    """The sections that a field holds, more than one where there is a choice, and what a key below it says between the
    two: a name (`*`), or nothing."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation], ""
    if get_origin(annotation) is dict:
        return sections_of(get_args(annotation)[1])[0], ".*"
    members = get_args(annotation)[:1] if get_origin(annotation) is Annotated else get_args(annotation)
    return [section for member in members for section in sections_of(member)[0]], ""


def tag_of(section: type[BaseModel]) -> str:
    """What chooses this section among others."""
    (tag,) = (info.default for name, info in section.model_fields.items() if name in TAG_NAMES)
    return str(tag)


def is_hidden(info: FieldInfo) -> bool:
    """Whether a key is for tests only."""
    return isinstance(info.json_schema_extra, dict) and bool(info.json_schema_extra.get("hidden"))


def allowed(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """The values of a field of this type, in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return allowed(arguments[0], [*metadata, *_flat(arguments[1:])])
    if origin in (Union, types.UnionType):
        return ", or ".join(allowed(member, metadata) for member in arguments)
    if origin is Literal:
        return ", ".join(f"`{shown(value)}`" for value in arguments)
    if origin is tuple:
        item = allowed(arguments[0])
        return "list of mappings" if item == "mapping" else f"list of: {item}"
    if annotation is type(None):
        return "null"
    if annotation is bool:
        return "`true`, `false`"
    if annotation in (int, float):
        return ("whole number" if annotation is int else "number") + _range(list(metadata))
    return "text" if annotation is str else "mapping"


def _flat(metadata: Iterable[Any]) -> list[Any]:
    return [part for item in metadata for part in (item.metadata if isinstance(item, FieldInfo) else [item])]


def _range(metadata: list[Any]) -> str:
    """`` 0 to 1`` where both ends are allowed, else the bounds there are."""
    found = [(sign, getattr(item, name)) for kind, name, sign in BOUNDS for item in metadata if isinstance(item, kind)]
    if [sign for sign, _ in found] == ["≥", "≤"]:
        return f" {_number(found[0][1])} to {_number(found[1][1])}"
    return "".join(f"{',' * (i > 0)} {sign} {_number(bound)}" for i, (sign, bound) in enumerate(found))


def _number(bound: float) -> str:
    if bound > LARGEST_SPELT_OUT and bound == 1 << int(bound).bit_length() - 1:
        return f"2^{int(bound).bit_length() - 1}"
    return f"{bound:g}"


def shown(value: Any) -> str:
    """A value as YAML on one line; paths inside the project as one writes them."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, str) and value.startswith(f"{ROOT}/"):
        value = value.removeprefix(f"{ROOT}/")
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("...\n").strip()
