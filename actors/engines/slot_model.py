"""A transformers model over slots: brings slots up to their prefixes and counts every token it pushes.

Axes: R rows of the cohort, T tokens of one forward, H hidden size.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from actors.engines.attention import SLOT_ATTENTION
from actors.engines.prefix_plan import Feed, TokenTable, group_by_length, plan_feeds
from actors.engines.slot_cache import Rows, SlotCache
from pipeline.config import EngineConfig
from pipeline.errors import ConfigError
from pipeline.records import TokenArray

MIN_WIDTH = 4  # below four rows, fp32 matrix kernels round differently: narrower decode steps get filler rows
READ_MULTIPLE = 32  # attention reads whole blocks of columns, so that its shape changes seldom
ROLLING_BACK = {"full_attention", "sliding_attention", "chunked_attention"}

HiddenSink = Callable[[Feed, torch.Tensor], None]


class SlotModel:
    """Owns the model, its slot cache and the table of what the slots hold. One call at a time.

    Args:
        model: any transformers model whose layers attend through the ordinary attention interface.
        engine: the shape of the cache; `max_model_len` must be set.

    Raises:
        ConfigError: the model has layers whose state cannot be rolled back.
    """

    def __init__(self, model: PreTrainedModel, engine: EngineConfig) -> None:
        config = model.config.get_text_config()
        foreign = set(getattr(config, "layer_types", None) or []) - ROLLING_BACK
        if foreign:
            raise ConfigError(f"{model.config.model_type}: layers of type {sorted(foreign)} cannot roll back a segment")
        assert engine.max_model_len is not None
        self.model = model.eval()
        self.model.set_attn_implementation(SLOT_ATTENTION)
        self.body = model.base_model
        self.device = model.device
        self.max_model_len = engine.max_model_len
        self.prefill_chunk = engine.prefill_chunk
        self.table = TokenTable(max(engine.slots, MIN_WIDTH), engine.max_model_len)
        self.cache = SlotCache(config.num_hidden_layers, engine.slots, engine.max_model_len, MIN_WIDTH)

    def catch_up(
        self,
        slots_R: npt.NDArray[np.int64],
        prefixes: list[TokenArray],
        keep_last: bool,
        sink: HiddenSink | None = None,
    ) -> npt.NDArray[np.int32]:
        """Feed what the slots lack of their prefixes; see `plan_feeds` for `keep_last`.

        Args:
            sink: called for each row's last fed token with the row's Feed and its hidden state [H].

        Returns:
            Tokens pushed for each row, int32 [R].
        """
        pushed_R = np.zeros(len(slots_R), dtype=np.int32)
        for wave in plan_feeds(self.table, slots_R, prefixes, keep_last):
            for feed in wave:
                if feed.copy_from is not None:
                    self.cache.copy_columns(feed.copy_from, int(slots_R[feed.row]), feed.copy_start, feed.start)
            ends = {feed.row: feed.end for feed in wave}
            for group in group_by_length(wave, self.prefill_chunk):
                self._feed(group, ends, slots_R, prefixes, sink)
                pushed_R[[feed.row for feed in group]] += [feed.num_tokens for feed in group]
            for feed in wave:
                self.table.set(int(slots_R[feed.row]), prefixes[feed.row][: feed.end])
        return pushed_R

    def _feed(
        self,
        group: list[Feed],
        ends: dict[int, int],
        slots_R: npt.NDArray[np.int64],
        prefixes: list[TokenArray],
        sink: HiddenSink | None,
    ) -> None:
        """One forward over a group of chunks of like length, longest first, right-padded to the longest."""
        num_tokens = max(group[0].num_tokens, MIN_WIDTH)
        tokens_RT = np.zeros((len(group), num_tokens), dtype=np.int64)
        for i, feed in enumerate(group):
            tokens_RT[i, : feed.num_tokens] = prefixes[feed.row][feed.start : feed.end]
        starts_R = np.array([feed.start for feed in group])
        rows = self.cache.select(slots_R[[feed.row for feed in group]])
        hidden_RTH = self.forward_hidden(rows, starts_R, tokens_RT)
        for i, feed in enumerate(group):
            if sink is not None and feed.end == ends[feed.row]:
                sink(feed, hidden_RTH[i, feed.num_tokens - 1])

    def forward_hidden(
        self, rows: Rows, starts_R: npt.NDArray[np.int64], tokens_RT: npt.NDArray[np.int64]
    ) -> torch.Tensor:
        """Last hidden states [R, T, H] of new tokens that start at each row's own position."""
        end = int(starts_R.max()) + tokens_RT.shape[1]
        read_length = self.padded_length(end) if starts_R.any() else None
        starts = torch.from_numpy(starts_R).to(self.device)
        position_ids = self.cache.begin(rows, starts, tokens_RT.shape[1], read_length)
        tokens = torch.from_numpy(tokens_RT).to(self.device)
        return self.body(
            input_ids=tokens, position_ids=position_ids, past_key_values=self.cache, use_cache=True
        ).last_hidden_state

    def padded_length(self, length: int) -> int:
        """Columns to read for `length` valid ones."""
        return min(-(-length // READ_MULTIPLE) * READ_MULTIPLE, self.cache.capacity)
