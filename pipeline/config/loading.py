"""From a YAML file and dotted overrides to a validated config, or to one clear ConfigError line.

Error lines name the dotted field and, for an unknown key, the nearest valid name.
"""

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticUndefined

from pipeline.config.align import AlignConfig
from pipeline.errors import ConfigError
from pipeline.strategies import STRATEGIES

STRATEGY_TAGS = tuple(STRATEGIES)

ConfigT = TypeVar("ConfigT", bound=BaseModel)


def load_config(path: str | None, overrides: list[str]) -> AlignConfig:
    """The config of `jobs.align`; see `load_tree`."""
    return load_tree(AlignConfig, path, overrides)


def load_tree(root: type[ConfigT], path: str | None, overrides: list[str]) -> ConfigT:
    """Read `path` (YAML), apply `key.path=value` overrides in order, validate as `root`.

    Raises:
        ConfigError: the file, a key, a type or a value is wrong; the message names the field.
    """
    return validate(root, read_tree(path, overrides))


def read_tree(path: str | None, overrides: list[str]) -> dict[str, Any]:
    """The same before it is validated."""
    tree = _read_yaml(path) if path else {}
    for override in overrides:
        _apply(tree, override)
    return tree


def validate(root: type[ConfigT], tree: dict[str, Any], prefix: Callable[[str], str] = lambda section: "") -> ConfigT:
    """`tree` as a `root`. Where it is part of a larger one, `prefix` says where each of its sections stands there.

    Raises:
        ConfigError: names every wrong field.
    """
    try:
        return root.model_validate(tree)
    except ValidationError as error:
        known = field_paths(root)
        lines = [_place(problem, prefix) + _describe(problem, known) for problem in error.errors()]
        raise ConfigError("; ".join(lines)) from None


def _place(problem: Any, prefix: Callable[[str], str]) -> str:
    return prefix(str(problem["loc"][0]) if problem["loc"] else "")


def field_paths(section: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """Every dotted field path of the tree with its pydantic FieldInfo; a union contributes all its members, and `*`
    stands for the keys of a mapping."""
    paths: dict[str, Any] = {}
    for name, info in section.model_fields.items():
        paths[prefix + name] = info
        below = f"{prefix}{name}.*." if get_origin(info.annotation) is dict else f"{prefix}{name}."
        for member in _sections_of(info.annotation):
            paths |= field_paths(member, below)
    return paths


def _sections_of(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [s for member in getattr(annotation, "__args__", ()) for s in _sections_of(member)]


def described_fields(root: type[BaseModel]) -> list[str]:
    """One line of help for every key of a config tree, with its default."""
    lines = []
    for name, field in field_paths(root).items():
        if field.description is None:
            continue
        default = "required" if field.default is PydanticUndefined else f"default {field.default!r}"
        lines.append(f"  {name:34s} {field.description} [{default}]".replace("%", "%%"))
    return lines


def _read_yaml(path: str) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"config file {path!r} does not exist{_nearest_file(path)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {path!r} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"config file {path!r} is not YAML: {' '.join(str(error).split())}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"config file {path!r} must hold a mapping, not a {type(tree).__name__}")
    return tree


def _nearest_file(path: str) -> str:
    siblings = [str(p) for p in Path(path).parent.glob("*.yaml")] if Path(path).parent.is_dir() else []
    return nearest(path, siblings)


def _apply(tree: dict[str, Any], override: str) -> None:
    """Set one `a.b=value`; the value is YAML. `strategy=NAME` or `strategy.name=NAME` starts that section anew."""
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"override {override!r} must look like key=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"{key}: {text!r} is not a YAML value") from None
    if key == "strategy" and isinstance(value, str):
        key = "strategy.name"
    *parents, last = key.split(".")
    node = tree
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise ConfigError(f"{key}: {parent!r} is not a section")
    if key == "strategy.name" and node.get("name") != value:
        node.clear()
    node[last] = value


def _describe(problem: Any, known: dict[str, Any]) -> str:
    """One line for one pydantic error: the dotted field, what is wrong, what was given."""
    location = [str(part) if str(part).isprintable() else repr(part) for part in problem["loc"]]
    field = ".".join(part for i, part in enumerate(location) if not (i == 1 and location[0] == "strategy"))
    if problem["type"] == "extra_forbidden":
        if field in known:
            return f"{field}: strategy {location[1]!r} has no such key"
        return f"{field}: unknown key{_nearest_field(field, list(known))}"
    if problem["type"].startswith("union_tag") or (field == "strategy" and problem["type"] == "model_attributes_type"):
        return f"strategy.name: must be one of {', '.join(STRATEGY_TAGS)}{_nearest_strategy(problem)}"
    if problem["type"] == "missing":
        return f"{field}: required, but not given"
    message = problem["msg"].removeprefix("Value error, ")
    given = problem["input"]
    shown = f" (given: {given!r})" if isinstance(given, (str, int, float, bool, type(None))) else ""
    return f"{field}: {message}{shown}" if field else message


def _nearest_strategy(problem: Any) -> str:
    given = problem.get("ctx", {}).get("tag")
    hint = nearest(given, STRATEGY_TAGS) if isinstance(given, str) else ""
    return f" (given: {given!r}{hint})" if given is not None else ""


def nearest(given: str, known: Sequence[str]) -> str:
    """A hint at the nearest known word, or nothing."""
    near = difflib.get_close_matches(given, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _nearest_field(field: str, known: list[str]) -> str:
    section = field.rpartition(".")[0]
    siblings = [name for name in known if name.rpartition(".")[0] == section]
    near = difflib.get_close_matches(field, siblings, n=1, cutoff=0.5) or difflib.get_close_matches(field, known, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; valid keys here: {', '.join(name.rpartition('.')[2] for name in siblings)}" if siblings else ""
