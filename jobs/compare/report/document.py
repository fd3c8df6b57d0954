"""A report as blocks, written once and rendered twice (`markdown`, `page`). Text may hold **bold**, nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.compare.figures.resampling import Estimate

NOTHING = "–"


@dataclass(frozen=True, slots=True)
class Heading:
    text: str
    level: int = 2


@dataclass(frozen=True, slots=True)
class Paragraph:
    text: str


@dataclass(frozen=True, slots=True)
class Points:
    """A list of short sentences."""

    items: Sequence[str]


@dataclass(frozen=True, slots=True)
class Table:
    """The first column is text, all others are figures."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG beside the report; `text` says what it shows."""

    file: str
    text: str


@dataclass(frozen=True, slots=True)
class Answers:
    """Responses to one prompt, side by side: (who gave it, with figures; the response)."""

    prompt: str
    answers: Sequence[tuple[str, str]]


Block = Heading | Paragraph | Points | Table | Picture | Answers


def shown(estimate: Estimate | None, form: str = ".2f", scale: float = 1.0) -> str:
    """A mean with its interval: `2.57 [2.40, 2.73]`."""
    if estimate is None:
        return NOTHING
    mean = f"{scale * estimate.mean:{form}}"
    if estimate.low is None or estimate.high is None:
        return mean
    return f"{mean} [{scale * estimate.low:{form}}, {scale * estimate.high:{form}}]"


def percent(estimate: Estimate | None) -> str:
    """A fraction with its interval, in percent: `84.0 % [81.2, 86.7]`."""
    text = shown(estimate, ".1f", 100.0)
    mean, bracket, rest = text.partition(" [")
    return text if text == NOTHING else f"{mean} %{bracket}{rest}"


def mean_of(estimate: Estimate | None, form: str = ",.0f") -> str:
    return NOTHING if estimate is None else f"{estimate.mean:{form}}"


def fraction(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.1%}"
