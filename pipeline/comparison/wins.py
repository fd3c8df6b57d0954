"""The one rule of a win: the better response wins, a tie is half a win for both.

Also which responses are set against each other. Runs of one seed share their draws (a strategy that keeps its first
proposals gives vanilla's own response), which would make a win-rate depend on the coupling; so runs of different seeds
are paired wherever there are some, and a contender of one seed says that its draws are shared.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from pipeline.comparison.outputs import Floats


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


def standard_error(num: int, total: float, total_of_squares: float) -> float:
    """Of a mean, from running sums: sqrt(variance / n), the variance that of the sample itself."""
    mean = total / num
    return float(np.sqrt(max(0.0, total_of_squares / num - mean * mean) / num))


def mean_win(values: Iterable[float]) -> tuple[int, float, float]:
    """Number, mean and standard error of wins, streamed."""
    num, total, squares = 0, 0.0, 0.0
    for value in values:
        num, total, squares = num + 1, total + value, squares + value * value
    return num, total / max(1, num), standard_error(max(1, num), total, squares)
