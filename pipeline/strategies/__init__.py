"""Decoding strategies: one short async function a file, chosen by this dict alone."""

from pipeline.strategies.best_of_n import best_of_n
from pipeline.strategies.stars import stars
from pipeline.strategies.task import Strategy, Task
from pipeline.strategies.vanilla import vanilla

STRATEGIES: dict[str, Strategy] = {
    "stars": Strategy(stars, num_lanes=lambda knobs: 1),
    "vanilla": Strategy(vanilla, num_lanes=lambda knobs: 1),
    "best_of_n": Strategy(best_of_n, num_lanes=lambda knobs: knobs.n),
}

__all__ = ["STRATEGIES", "Strategy", "Task"]
