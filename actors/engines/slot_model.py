"""A transformers model over slots: brings slots up to their prefixes and counts every token it pushes.

Axes: R rows of the cohort, T tokens of one forward, H hidden size.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from actors.engines.attention import SLOT_ATTENTION, RowGroup
from actors.engines.prefix_plan import Feed, TokenTable, group_by_length, plan_feeds
from actors.engines.shapes import MIN_ROWS, SHAPES, rounded_up
from actors.engines.slot_cache import SlotCache
from pipeline.config.decoding import EngineConfig
from pipeline.errors import ConfigError
from pipeline.records import TokenArray

GROUP_ROWS = 8  # neighbours that attention reads to the length of the longest of them
ROLLING_BACK = {"full_attention", "sliding_attention", "chunked_attention"}


HiddenSink = Callable[[Feed, torch.Tensor], None]
CopySink = Callable[[Feed], None]


class SlotModel:
    """Owns the model, its slot cache and the table of what the slots hold. One call at a time.

    Args:
        model: any transformers model whose layers attend through the ordinary attention interface.
        engine: the shape of the cache; `slots` and `max_model_len` must be set.
        shapes_of: the device type whose shapes to use; None is the model's own.

    Raises:
        ConfigError: the model has layers whose state cannot be rolled back.
    """

    def __init__(self, model: PreTrainedModel, engine: EngineConfig, shapes_of: str | None = None) -> None:
        config = model.config.get_text_config()
        foreign = set(getattr(config, "layer_types", None) or []) - ROLLING_BACK
        if foreign:
            raise ConfigError(f"{model.config.model_type}: layers of type {sorted(foreign)} cannot roll back a segment")
        assert engine.slots is not None and engine.max_model_len is not None
        self.model = model.eval()
        self.model.set_attn_implementation(SLOT_ATTENTION)
        self.body = model.base_model
        self.device = model.device
        self.vocabulary_size = config.vocab_size
        self.shapes = SHAPES[shapes_of or self.device.type]
        self.prefill_chunk = min(engine.prefill_chunk, self.shapes.chunk_tokens)
        self.table = TokenTable(self.shapes.width(engine.slots), engine.max_model_len)
        num_columns = self.shapes.feed_length(engine.max_model_len) + 1
        self.cache = SlotCache(config.num_hidden_layers, self.table.lengths_S, engine.max_model_len, num_columns)

    def catch_up(
        self,
        slots_R: npt.NDArray[np.int64],
        prefixes: list[TokenArray],
        keep_last: bool,
        sink: HiddenSink | None = None,
        copied: CopySink | None = None,
    ) -> npt.NDArray[np.int32]:
        """Feed what the slots lack of their prefixes; see `plan_feeds` for `keep_last`.

        Args:
            sink: called for each chunk that is fed, a row's in order, with its hidden states [T, H].
            copied: called for each fork, before the chunks that build on it.

        Returns:
            Tokens pushed for each row, int32 [R].
        """
        pushed_R = np.zeros(len(slots_R), dtype=np.int32)
        waves = plan_feeds(self.table, slots_R, prefixes, keep_last)
        self.cache.sort_empty(slots_R, np.array([len(prefix) for prefix in prefixes]))
        for wave in waves:
            for feed in wave:
                if feed.copy_from is not None:
                    self.cache.copy_columns(feed.copy_from, int(slots_R[feed.row]), feed.copy_start, feed.start)
                    if copied is not None:
                        copied(feed)
            for group in group_by_length(wave, self.prefill_chunk, self.shapes.forward_tokens):
                self._feed(group, slots_R, prefixes, sink)
                pushed_R[[feed.row for feed in group]] += [feed.num_tokens for feed in group]
            for feed in wave:
                self.table.set(int(slots_R[feed.row]), prefixes[feed.row][: feed.end])
        return pushed_R

    def window(self, slots_R: npt.NDArray[np.int64]) -> tuple[int, npt.NDArray[np.int64]]:
        """Bring slots side by side, with room for the fillers of a step; the first storage row, and their order from
        there on."""
        width = self.shapes.width(len(slots_R))
        places = np.arange(0, len(self.table.lengths_S) - width + 1, self.shapes.width_multiple)
        first = self.cache.arrange(slots_R, places)
        return first, self.cache.select(slots_R)[1]

    def _feed(
        self,
        group: list[Feed],
        slots_R: npt.NDArray[np.int64],
        prefixes: list[TokenArray],
        sink: HiddenSink | None,
    ) -> None:
        """One forward over a group of chunks of like length, right-padded to the longest."""
        rows_R, order = self.cache.select(slots_R[[feed.row for feed in group]])
        group = [group[i] for i in order]
        longest = max(feed.num_tokens for feed in group)
        is_fresh = not any(feed.start for feed in group)
        num_tokens = self.shapes.feed_length(longest) if is_fresh else rounded_up(longest, MIN_ROWS)
        tokens_RT = np.zeros((len(group), num_tokens), dtype=np.int64)
        for i, feed in enumerate(group):
            tokens_RT[i, : feed.num_tokens] = prefixes[feed.row][feed.start : feed.end]
        starts_R = np.array([feed.start for feed in group])
        hidden_RTH = self.forward_hidden(rows_R, starts_R, tokens_RT)
        if sink is not None:
            for i, feed in enumerate(group):
                sink(feed, hidden_RTH[i, : feed.num_tokens])

    def forward_hidden(
        self, rows_R: npt.NDArray[np.int64], starts_R: npt.NDArray[np.int64], tokens_RT: npt.NDArray[np.int64]
    ) -> torch.Tensor:
        """Last hidden states [R, T, H] of new tokens that start at each storage row's own position."""
        lengths = (
            [self.shapes.feed_length(int(start) + tokens_RT.shape[1]) for start in starts_R] if starts_R.any() else []
        )
        return self._forward(self.body, rows_R, starts_R, tokens_RT, lengths).last_hidden_state

    def next_logits(
        self, rows_A: npt.NDArray[np.int64], starts_A: npt.NDArray[np.int64], tokens_A: npt.NDArray[np.int64]
    ) -> torch.Tensor:
        """Logits [A, V] after one more token of every storage row. Where a step needs more rows, the last one's stands
        in for them and writes to the dump column, where it disturbs nothing."""
        num_rows, num_fillers = len(rows_A), self.shapes.width(len(rows_A)) - len(rows_A)
        lengths = [self.shapes.step_length(start + 1) for start in starts_A.tolist()]
        if num_fillers:
            rows_A, tokens_A = (np.append(axis, np.repeat(axis[-1], num_fillers)) for axis in (rows_A, tokens_A))
            starts_A = np.append(starts_A, np.repeat(self.cache.num_columns - 1, num_fillers))
            lengths += lengths[-1:] * num_fillers
        output = self._forward(self.model, rows_A, starts_A, tokens_A[:, None], lengths, logits_to_keep=1)
        return output.logits[:num_rows, -1]

    def next_logits_static(
        self, rows: slice, starts_W: torch.Tensor, tokens_W: torch.Tensor, read_length: int
    ) -> torch.Tensor:
        """The same from tensors on the device, in shapes that depend on nothing else."""
        position_ids = self.cache.begin(rows, starts_W, 1, read_length)
        return self._run(self.model, tokens_W[:, None], position_ids, logits_to_keep=1).logits[:, -1]

    def _forward(
        self,
        module: PreTrainedModel,
        rows_R: npt.NDArray[np.int64],
        starts_R: npt.NDArray[np.int64],
        tokens_RT: npt.NDArray[np.int64],
        lengths: list[int],
        **options: Any,
    ) -> Any:
        """One forward; each row attends to its own number of columns, or to the new tokens only if there are none."""
        groups = row_groups(rows_R, [min(length, self.cache.num_columns) for length in lengths])
        read_length = max((group.length for group in groups), default=None)
        rows, starts = self.to_device(rows_R), self.to_device(starts_R)
        position_ids = self.cache.begin(rows, starts, tokens_RT.shape[1], read_length)
        return self._run(module, self.to_device(tokens_RT), position_ids, row_groups=groups, **options)

    def _run(self, module: PreTrainedModel, tokens_RT: torch.Tensor, position_ids: torch.Tensor, **options: Any) -> Any:
        return module(
            input_ids=tokens_RT, position_ids=position_ids, past_key_values=self.cache, use_cache=True, **options
        )

    def to_device(self, array: npt.NDArray[Any]) -> torch.Tensor:
        """Copy to the model's device, without waiting for it where there is one."""
        tensor = torch.from_numpy(array)
        return tensor.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else tensor


def row_groups(rows_R: npt.NDArray[np.int64], lengths_R: list[int]) -> tuple[RowGroup, ...]:
    """Neighbouring storage rows, at most `GROUP_ROWS` of them, which read to the length of the longest."""
    if not lengths_R:
        return ()
    groups, first = [], 0
    for last in range(1, len(lengths_R) + 1):
        is_end = last == len(lengths_R) or last - first == GROUP_ROWS or rows_R[last] != rows_R[last - 1] + 1
        if is_end:
            groups.append(RowGroup(first, last, int(rows_R[first]), max(lengths_R[first:last])))
            first = last
    return tuple(groups)
