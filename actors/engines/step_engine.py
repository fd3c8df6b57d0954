"""The engine of process rewards: a probability at every token, of which those at the ends of steps count.

What a slot's tokens gave is kept beside them, as long as they stand: a step that is taken back takes its score along,
and a fork copies both.

Axes: S slots, L positions, T tokens of one chunk, R rows.
"""

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from actors.engines.prefix_plan import Feed
from actors.engines.reward_engine import Body
from actors.engines.shapes import MIN_ROWS
from pipeline.config.decoding import EngineConfig
from pipeline.protocol import CallStats
from pipeline.records import TokenArray

Goodness = Callable[[torch.Tensor], torch.Tensor]


class StepEngine:
    """Gives the probabilities that steps are good.

    Args:
        body: makes the hidden states.
        goodness: from hidden states [T, H] to probabilities [T].
        engine: the shape of the cache.
    """

    def __init__(self, body: Body, goodness: Goodness, engine: EngineConfig) -> None:
        assert engine.slots is not None and engine.max_model_len is not None
        self.body = body
        self.goodness = goodness
        self.good_SL = torch.full((engine.slots, engine.max_model_len), torch.nan)

    @torch.inference_mode()
    def score(
        self, slots_R: npt.NDArray[np.int32], prefixes: list[TokenArray], ends: list[list[int]]
    ) -> tuple[list[npt.NDArray[np.float64]], CallStats]:
        """The probability at each of a row's ends, positions in its prefix; and what it cost. Slots must differ."""
        started_s = time.time()

        def keep(feed: Feed, hidden_TH: torch.Tensor) -> None:
            num_missing = max(0, MIN_ROWS - len(hidden_TH))  # matrix kernels round few rows differently
            filled = torch.cat([hidden_TH, hidden_TH[-1:].expand(num_missing, -1)])
            good_T = self.goodness(filled)[: len(hidden_TH)].float().cpu()
            self.good_SL[slots_R[feed.row], feed.start : feed.end] = good_T

        def copy(feed: Feed) -> None:
            copied = slice(feed.copy_start, feed.start)
            self.good_SL[slots_R[feed.row], copied] = self.good_SL[feed.copy_from, copied]

        pushed_R = self.body.catch_up(slots_R.astype(np.int64), prefixes, False, keep, copy)
        found = [
            self.good_SL[slot, places].double().numpy() for slot, places in zip(slots_R.tolist(), ends, strict=True)
        ]
        return found, CallStats.of_prefill(pushed_R, started_s)
