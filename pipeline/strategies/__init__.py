"""Decoding strategies: one short async function a file, chosen by this dict alone."""

from pipeline.strategies.adasearch import adasearch
from pipeline.strategies.best_of_n import best_of_n
from pipeline.strategies.blockwise_best_of_k import blockwise_best_of_k
from pipeline.strategies.cards import cards
from pipeline.strategies.reservation import reservation
from pipeline.strategies.segment_beam import segment_beam
from pipeline.strategies.speculative_rejection import speculative_rejection
from pipeline.strategies.stars import stars
from pipeline.strategies.task import Strategy, Task
from pipeline.strategies.vanilla import vanilla

STRATEGIES: dict[str, Strategy] = {
    "stars": stars,
    "reservation": reservation,
    "vanilla": vanilla,
    "best_of_n": best_of_n,
    "cards": cards,
    "blockwise_best_of_k": blockwise_best_of_k,
    "segment_beam": segment_beam,
    "adasearch": adasearch,
    "speculative_rejection": speculative_rejection,
}

__all__ = ["STRATEGIES", "Strategy", "Task"]
