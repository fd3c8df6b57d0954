"""The reward engine: one scalar per row, by ONE forward over the tokens its slot does not hold yet.

The score is read at each row's last real token. transformers' own classification forward looks for the last token
that is not padding, which is the wrong place where the pad token equals the end token.
"""

import time

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from actors.engines.prefix_plan import Feed
from actors.engines.slot_model import SlotModel
from pipeline.config.decoding import EngineConfig
from pipeline.errors import ConfigError
from pipeline.protocol import CallStats
from pipeline.records import TokenArray


class RewardEngine:
    """Scores token prefixes with a sequence classifier of one label.

    Args:
        model: the classifier; its head must be `score`, as in transformers' `*ForSequenceClassification`.
        engine: the cache's shape.

    Raises:
        ConfigError: the model has more than one label or no `score` head.
    """

    def __init__(self, model: PreTrainedModel, engine: EngineConfig) -> None:
        if model.config.num_labels != 1 or not hasattr(model, "score"):
            raise ConfigError(
                f"reward.model: {type(model).__name__} with {model.config.num_labels} labels is not a reward model; "
                "it must be a sequence classifier with one label and a `score` head"
            )
        self.slots = SlotModel(model, engine)

    @torch.inference_mode()
    def score(
        self, slots_R: npt.NDArray[np.int32], prefixes: list[TokenArray]
    ) -> tuple[npt.NDArray[np.float64], CallStats]:
        """The reward of each row's whole prefix, float64 [R], and what it cost. Slots must differ."""
        started_s = time.time()
        hidden: dict[int, torch.Tensor] = {}

        def keep_last_hidden(feed: Feed, hidden_H: torch.Tensor) -> None:
            hidden[feed.row] = hidden_H

        pushed_R = self.slots.catch_up(slots_R.astype(np.int64), prefixes, False, keep_last_hidden)
        # Row by row, because a matrix-vector product rounds differently with the number of rows.
        rewards = [self.slots.model.score(hidden[row]) for row in range(len(prefixes))]
        rewards_R = torch.cat(rewards).double().cpu().numpy() if rewards else np.zeros(0)
        ended_s = time.time()
        return rewards_R, CallStats(pushed_R, started_s, ended_s, prefill_s=ended_s - started_s)
