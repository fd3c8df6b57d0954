"""From a YAML file and dotted overrides to a validated config, or to one clear ConfigError line.

Error lines name the dotted field and, for an unknown key, the nearest valid name.
"""

import difflib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from pipeline.config.align import AlignConfig
from pipeline.config.rewards import DEFAULT_KIND
from pipeline.errors import ConfigError

TAG_NAMES = {"name", "kind"}  # by which the members of a union are told apart
CHOICES = {"strategy": ("name", None), "reward": ("kind", DEFAULT_KIND)}  # of the whole tree: tag, and its default
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
        lines = [_place(problem, prefix) + _describe(problem, root) for problem in error.errors()]
        raise ConfigError("; ".join(lines)) from None


def _place(problem: Any, prefix: Callable[[str], str]) -> str:
    return prefix(str(problem["loc"][0]) if problem["loc"] else "")


def field_paths(section: type[BaseModel], prefix: str = "") -> list[str]:
    """Every dotted path of the tree, each once; a union contributes all its members, and `*` stands for the keys of a
    mapping."""
    paths = []
    for name, info in section.model_fields.items():
        paths.append(prefix + name)
        for member in _sections_of(info.annotation):
            paths += field_paths(member, _below(prefix + name, info))
    return list(dict.fromkeys(paths))


def _below(path: str, info: FieldInfo) -> str:
    return f"{path}.*." if get_origin(info.annotation) is dict else f"{path}."


def _sections_of(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [s for member in get_args(annotation) for s in _sections_of(member)]


def described_fields(section: type[BaseModel], prefix: str = "") -> list[str]:
    """One line of help for every key of a config tree, with its values and its default. The members of a union are told
    apart by their discriminator, each with its own keys. Keys marked `hidden` are for tests and left out."""
    lines = []
    for name, info in section.model_fields.items():
        path, below = prefix + name, _below(prefix + name, info)
        if info.description and not _is_hidden(info):
            lines.append(_help_line(path, info.description, _choice(info.annotation), info))
        members = _sections_of(info.annotation)
        if len(members) > 1:
            tag_name = next(iter(members[0].model_fields.keys() & TAG_NAMES))
            tags = {str(member.model_fields[tag_name].default): member for member in members}
            lines.append(_help_line(below + tag_name, "which of those below", f"one of {', '.join(tags)}", info))
            for tag, member in tags.items():
                lines += [f"  {below}{tag_name}={tag}", *_indented(described_fields(member, below))]
        else:
            lines += [line for member in members for line in described_fields(member, below)]
    return lines


def _is_hidden(info: FieldInfo) -> bool:
    return isinstance(info.json_schema_extra, dict) and bool(info.json_schema_extra.get("hidden"))


def _indented(lines: list[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _help_line(path: str, description: str, choice: str, info: FieldInfo) -> str:
    default = "required" if info.is_required() else f"default {_as_yaml(info.default)}"
    return f"  {path:34s} {description} [{'; '.join(filter(None, [choice, default]))}]"


def _choice(annotation: Any) -> str:
    """What a Literal allows, or a list of one; nothing where anything goes."""
    is_list = get_origin(annotation) in (tuple, list)
    values = _literal_values(annotation)
    return f"{'any' if is_list else 'one'} of {', '.join(values)}" if values else ""


def _literal_values(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return [str(value) for value in get_args(annotation)]
    return [value for member in get_args(annotation) for value in _literal_values(member)]


def _as_yaml(value: Any) -> str:
    """A default as one would write it in the YAML file."""
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


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
    """Set one `a.b=value`; the value is YAML. Another `strategy.name` or `reward.kind` starts that section anew;
    `strategy=NAME` is the same as `strategy.name=NAME`, and so for the reward."""
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"override {override!r} must look like key=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"{key}: {text!r} is not a YAML value") from None
    if key in CHOICES and isinstance(value, str):
        key = f"{key}.{CHOICES[key][0]}"
    *parents, last = key.split(".")
    node = tree
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise ConfigError(f"{key}: {parent!r} is not a section")
    tag, default = CHOICES.get(parents[0] if len(parents) == 1 else "", (None, None))
    if last == tag and node.get(last, default) != value:
        node.clear()
    node[last] = value


@dataclass(frozen=True, slots=True)
class _Field:
    """Where a problem is: its dotted key, the same as `field_paths` writes it, and what is chosen there. `tags` are
    those of the section that it chooses, `choice` says in which section it stands, both where there are several."""

    key: str
    path: str
    tags: tuple[str, ...] = ()
    choice: str = ""


def _field_at(root: type[BaseModel], location: Sequence[Any]) -> _Field:
    """A problem's location without the tags that pydantic adds where it chose a section."""
    keys, path, members, choice = list[str](), list[str](), [root], ""
    is_mapping = False
    for part in location:
        tags = _tags_of(members)
        if part in tags and not is_mapping:
            members, choice = [tags[part]], f"{path[-1]} {part!r}"
            continue
        shown = str(part) if str(part).isprintable() else repr(part)
        keys.append(shown)
        if is_mapping:
            path.append("*")
            is_mapping = False
            continue
        path.append(shown)
        info = members[0].model_fields.get(str(part)) if members else None
        members = _sections_of(info.annotation) if info else []
        is_mapping = info is not None and get_origin(info.annotation) is dict
    return _Field(".".join(keys), ".".join(path), tuple(map(str, _tags_of(members))), choice)


def _tags_of(members: list[type[BaseModel]]) -> dict[Any, type[BaseModel]]:
    """What tells the members of a union apart; nothing where there is only one."""
    if len(members) < 2:
        return {}
    tag = next(iter(members[0].model_fields.keys() & TAG_NAMES))
    return {member.model_fields[tag].default: member for member in members}


def _describe(problem: Any, root: type[BaseModel]) -> str:
    """One line for one pydantic error: the dotted field, what is wrong, what was given."""
    field, known = _field_at(root, problem["loc"]), field_paths(root)
    key, kind = field.key, problem["type"]
    if kind == "extra_forbidden":
        if field.path in known:
            return f"{key}: {field.choice} has no such key"
        return f"{key}: unknown key{_nearest_field(field.path, known)}"
    if field.tags and (kind.startswith("union_tag") or kind == "model_attributes_type"):
        tag = "kind" if f"{field.path}.kind" in known else "name"
        return f"{key}.{tag}: must be one of {', '.join(field.tags)}{_nearest_tag(problem, field.tags)}"
    if kind == "missing":
        return f"{key}: required, but not given"
    message = problem["msg"].removeprefix("Value error, ")
    given = problem["input"]
    shown = f" (given: {given!r})" if isinstance(given, (str, int, float, bool, type(None))) else ""
    return f"{key}: {message}{shown}" if key else message


def _nearest_tag(problem: Any, tags: tuple[str, ...]) -> str:
    given = problem.get("ctx", {}).get("tag")
    hint = nearest(given, tags) if isinstance(given, str) else ""
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
