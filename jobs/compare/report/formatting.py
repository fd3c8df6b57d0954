"""Figures as text."""

from jobs.compare.figures.resampling import Estimate

NOTHING = "–"


def with_interval(estimate: Estimate | None, form: str = ".2f", scale: float = 1.0) -> str:
    """A mean with its interval: `2.57 [2.40, 2.73]`."""
    if estimate is None:
        return NOTHING
    mean = f"{scale * estimate.mean:{form}}"
    if estimate.low is None or estimate.high is None:
        return mean
    return f"{mean} [{scale * estimate.low:{form}}, {scale * estimate.high:{form}}]"


def percent(estimate: Estimate | None) -> str:
    """A fraction with its interval, in percent: `84.0 % [81.2, 86.7]`."""
    text = with_interval(estimate, ".1f", 100.0)
    mean, bracket, rest = text.partition(" [")
    return text if text == NOTHING else f"{mean} %{bracket}{rest}"


def mean_of(estimate: Estimate | None, form: str = ",.0f") -> str:
    return NOTHING if estimate is None else f"{estimate.mean:{form}}"


def fraction(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.1%}"
