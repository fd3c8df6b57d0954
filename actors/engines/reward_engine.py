"""The reward engine: one scalar per row, by ONE forward over the tokens its slot does not hold yet.

The score is read at each row's last real token. transformers' own classification forward looks for the last token
that is not padding, which is the wrong place where the pad token equals the end token.
"""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from actors.engines.prefix_plan import Feed
from actors.engines.slot_model import CopySink, HiddenSink
from pipeline.protocol import CallStats
from pipeline.records import TokenArray

Head = Callable[[torch.Tensor], torch.Tensor]


class Body(Protocol):
    """What makes hidden states of prefixes: `SlotModel`, or `WholeModel`."""

    def catch_up(
        self,
        slots_R: npt.NDArray[np.int64],
        prefixes: list[TokenArray],
        keep_last: bool,
        sink: HiddenSink,
        copied: CopySink | None = None,
    ) -> npt.NDArray[np.int32]: ...


class RewardEngine:
    """Scores token prefixes at their last tokens.

    Args:
        body: makes the hidden states.
        head: from a hidden state [H] to logits [L].
        weights: which logits the reward is the sum of, and how much each counts.
    """

    def __init__(self, body: Body, head: Head, weights: Sequence[tuple[int, float]] = ((0, 1.0),)) -> None:
        self.body = body
        self.head = head
        self.weights = weights

    @torch.inference_mode()
    def score(
        self, slots_R: npt.NDArray[np.int32], prefixes: list[TokenArray]
    ) -> tuple[npt.NDArray[np.float64], CallStats]:
        """The reward of each row's whole prefix, float64 [R], and what it cost. Slots must differ."""
        started_s = time.time()
        hidden: dict[int, torch.Tensor] = {}

        def keep_last_hidden(feed: Feed, hidden_TH: torch.Tensor) -> None:
            hidden[feed.row] = hidden_TH[-1]

        pushed_R = self.body.catch_up(slots_R.astype(np.int64), prefixes, False, keep_last_hidden)
        # Row by row, because a matrix-vector product rounds differently with the number of rows.
        logits = [self.head(hidden[row]) for row in range(len(prefixes))]
        logits_RL = torch.stack(logits).double().cpu().numpy() if logits else np.zeros((0, 1))
        rewards_R = weighted(logits_RL, self.weights)
        return rewards_R, CallStats.of_prefill(pushed_R, started_s)


def weighted(logits_RL: npt.NDArray[np.float64], weights: Sequence[tuple[int, float]]) -> npt.NDArray[np.float64]:
    """The weighted sum of some logits, [R]; one logit of weight 1 as it is."""
    if len(logits_RL) == 0:
        return np.zeros(0)
    return np.sum([weight * logits_RL[:, label] for label, weight in weights], axis=0)
