"""Quality at equal cost: who is on the frontier, and what a rival family gives for the same policy tokens.

A coin per prompt that chooses between two runs reaches every point of the line between them, exactly. So the best
quality of a family at some cost is the highest point, at that cost, of the lines between its runs and the baseline
(which may be mixed into every family), and interpolating along these lines assumes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations


@dataclass(frozen=True, slots=True)
class Point:
    """A contender's cost (policy tokens per response) and quality."""

    cost: float
    quality: float


@dataclass(frozen=True, slots=True)
class Mix:
    """`share` of the first run and the rest of the second; one run alone has share 1."""

    runs: tuple[str, ...]
    share: float
    cost: float
    quality: float


def frontier(points: Mapping[str, Point]) -> set[str]:
    """The contenders that no other one dominates: at least as good in cost and quality, and better in one of them."""
    return {name for name, point in points.items() if not any(_dominates(other, point) for other in points.values())}


def best_mix(points: Mapping[str, Point], names: Sequence[str], cost: float) -> Mix | None:
    """The best quality that the named runs reach at no more than `cost`; None if all of them cost more."""
    alone = [Mix((name,), 1.0, points[name].cost, points[name].quality) for name in names if points[name].cost <= cost]
    mixed = []
    for cheap, costly in permutations(names, 2):
        a, b = points[cheap], points[costly]
        if a.cost <= cost < b.cost:
            share = (b.cost - cost) / (b.cost - a.cost)
            mixed.append(Mix((cheap, costly), share, cost, share * a.quality + (1 - share) * b.quality))
    return max(alone + mixed, key=lambda mix: (mix.quality, -mix.cost), default=None)


def _dominates(other: Point, point: Point) -> bool:
    at_least = other.cost <= point.cost and other.quality >= point.quality
    return at_least and (other.cost < point.cost or other.quality > point.quality)
