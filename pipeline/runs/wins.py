"""The one rule of a win: the better response wins, a tie is half a win for both.

Also which responses are set against each other. Runs of one seed share their draws (a strategy that keeps its first
proposals gives vanilla's own response), which would make a win-rate depend on the coupling; so runs of different seeds
are paired wherever there are some, and a contender of one seed says that its draws are shared.
"""

import math
from collections.abc import Sequence

import numpy as np

from pipeline.runs.run_rows import Floats


def wins(ours: Floats, theirs: Floats) -> Floats:
    """1 where ours is the better, 0 where theirs is, 0.5 for a tie, nan where one is missing; elementwise."""
    return np.where(np.isnan(ours) | np.isnan(theirs), np.nan, 0.5 + 0.5 * np.sign(ours - theirs))


def seed_pairs(ours: Sequence[int], theirs: Sequence[int]) -> list[tuple[int, int]]:
    """Positions (in ours, in theirs) of the runs that are compared: each of ours once, with another seed than its own
    where theirs has one, in turn."""
    pairs = []
    for i, seed in enumerate(ours):
        others = [j for j, other in enumerate(theirs) if other != seed] or list(range(len(theirs)))
        pairs.append((i, others[i % len(others)]))
    return pairs


def shares_draws(ours: Sequence[int], theirs: Sequence[int]) -> bool:
    """Whether any pair is of one seed."""
    return any(ours[i] == theirs[j] for i, j in seed_pairs(ours, theirs))


class RunningMean:
    """A mean and its standard error over values that come one by one; None while there is none."""

    def __init__(self) -> None:
        self.num = 0
        self.total = 0.0
        self.total_of_squares = 0.0

    def add(self, value: float) -> None:
        self.num += 1
        self.total += value
        self.total_of_squares += value * value

    @property
    def mean(self) -> float | None:
        return self.total / self.num if self.num else None

    @property
    def standard_error(self) -> float | None:
        """sqrt(variance / n), the variance that of the sample itself."""
        if not self.num:
            return None
        mean = self.total / self.num
        return math.sqrt(max(0.0, self.total_of_squares / self.num - mean * mean) / self.num)
