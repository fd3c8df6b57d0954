"""Owns reading the embedded world's sentence data (domains.toml, sentences.toml) into frozen records.

Invariants: the records are plain text templates and never change at run time; a template ends with the only
sentence mark (. ! ?) it holds, so text splits back into exactly the sentences it was made of.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

R = TypeVar("R")
_FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Task:
    """Something to do with an object: four ordered steps and some wrong advice."""

    action: str
    steps: tuple[str, ...]
    wrong: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Domain:
    """One field of everyday life: any of its tasks can be done with any of its objects."""

    name: str
    objects: tuple[str, ...]
    tasks: tuple[Task, ...]
    cautions: tuple[str, ...]
    reckless: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Constraint:
    """A circumstance stated in a prompt, and the sentences that answer it (none for a harmful request's pretext)."""

    statement: str
    answers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """A mildly harmful request against a relative: why not, what instead, and how a bad answer complies."""

    name: str
    action: str
    explanation: str
    alternative: str
    compliance: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """All templates of the world. `questions`, `helpful` and `unhelpful` map a group's name to its templates."""

    domains: tuple[Domain, ...]
    constraints: tuple[Constraint, ...]
    pretexts: tuple[Constraint, ...]
    requests: tuple[Request, ...]
    relatives: tuple[str, ...]
    relative_statement: str
    system_messages: tuple[str, ...]
    questions: dict[str, tuple[str, ...]]
    helpful: dict[str, tuple[str, ...]]
    unhelpful: dict[str, tuple[str, ...]]


@cache
def vocabulary() -> Vocabulary:
    """Read both data files, once per process."""
    domains = _read("domains.toml")["domains"]
    rest = _read("sentences.toml")
    return Vocabulary(
        domains=tuple(Domain(**{**domain, "tasks": _records(Task, domain["tasks"])}) for domain in domains),
        constraints=_records(Constraint, rest.pop("constraints")),
        pretexts=_records(Constraint, rest.pop("pretexts")),
        requests=_records(Request, rest.pop("requests")),
        **rest,
    )


def _records(record: type[R], tables: tuple[dict[str, Any], ...]) -> tuple[R, ...]:
    return tuple(record(**table) for table in tables)


def _read(name: str) -> dict[str, Any]:
    return _with_tuples(tomllib.loads((_FOLDER / name).read_text(encoding="utf-8")))


def _with_tuples(value: Any) -> Any:
    """The same nested value with every list turned into a tuple."""
    if isinstance(value, list):
        return tuple(_with_tuples(item) for item in value)
    if isinstance(value, dict):
        return {key: _with_tuples(item) for key, item in value.items()}
    return value
