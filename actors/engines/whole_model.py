"""A transformers model as it is, which reads whole sequences and keeps nothing: for models that slots cannot hold.

It stands in for `SlotModel` where a model's own attention is asked for. Rows of a forward are padded on the right,
which no token of a causal model can see, so that a row's hidden states are those of the row alone.

Axes: R rows of the cohort, L tokens, H hidden size.
"""

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from actors.engines.prefix_plan import Feed, group_by_length
from actors.engines.shapes import SHAPES
from actors.engines.slot_model import CopySink, HiddenSink
from pipeline.records import TokenArray


class WholeModel:
    """Owns the model. One call at a time.

    Args:
        model: any causal transformers model with a body.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model.eval()
        self.body = model.base_model
        self.forward_tokens = SHAPES[model.device.type].forward_tokens

    def catch_up(
        self,
        slots_R: npt.NDArray[np.int64],
        prefixes: list[TokenArray],
        keep_last: bool,
        sink: HiddenSink,
        copied: CopySink | None = None,
    ) -> npt.NDArray[np.int32]:
        """Read every prefix whole; see `SlotModel.catch_up`. Slots mean nothing, and nothing is copied."""
        feeds = [Feed(row, 0, len(prefix) - keep_last) for row, prefix in enumerate(prefixes)]
        for group in group_by_length(feeds, max((feed.end for feed in feeds), default=1), self.forward_tokens):
            tokens_RL = np.zeros((len(group), max(feed.end for feed in group)), dtype=np.int64)
            for i, feed in enumerate(group):
                tokens_RL[i, : feed.end] = prefixes[feed.row][: feed.end]
            output = self.body(input_ids=torch.from_numpy(tokens_RL).to(self.model.device), use_cache=False)
            for i, feed in enumerate(group):
                sink(feed, output[0][i, : feed.end])
        return np.array([feed.end for feed in feeds], dtype=np.int32)
