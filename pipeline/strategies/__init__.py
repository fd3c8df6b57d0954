"""Decoding strategies: one short async function a file, chosen by this dict alone."""

from pipeline.strategies.best_of_n import best_of_n
from pipeline.strategies.stars import stars
from pipeline.strategies.task import Strategy, Task
from pipeline.strategies.vanilla import vanilla

STRATEGIES: dict[str, Strategy] = {
    "stars": stars,
    "vanilla": vanilla,
    "best_of_n": best_of_n,
}

__all__ = ["STRATEGIES", "Strategy", "Task"]
