"""A transformers model over slots: brings slots up to their prefixes and counts every token it pushes.

Axes: R rows of the cohort, T tokens of one forward, H hidden size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from actors.engines.attention import SLOT_ATTENTION, RowGroup
from actors.engines.prefix_plan import MAX_PADDING_TOKENS, Feed, TokenTable, group_by_length, plan_feeds
from actors.engines.slot_cache import GROUP_ROWS, Rows, SlotCache
from pipeline.config import EngineConfig
from pipeline.errors import ConfigError
from pipeline.records import TokenArray

ROLLING_BACK = {"full_attention", "sliding_attention", "chunked_attention"}


@dataclass(frozen=True, slots=True)
class Shapes:
    """How forwards are rounded up to shapes that a device likes.

    Args:
        width_multiple: a decode step has a multiple of so many rows, fillers among them, and starts at one.
        read_multiple: attention reads a multiple of so many columns.
        forward_tokens: most tokens of one forward of several rows, so that its activations stay small.
    """

    width_multiple: int
    read_multiple: int
    forward_tokens: int

    def width(self, num_rows: int) -> int:
        """Rows of a decode step for `num_rows` active ones."""
        return max(MIN_WIDTH, _rounded_up(num_rows, self.width_multiple))


MIN_WIDTH = 4  # below four rows, matrix kernels round differently: narrower decode steps get filler rows
SHAPES = {"cpu": Shapes(1, 16, 2048), "cuda": Shapes(16, 256, 16384)}  # on a GPU, few shapes: each is captured

HiddenSink = Callable[[Feed, torch.Tensor], None]


class SlotModel:
    """Owns the model, its slot cache and the table of what the slots hold. One call at a time.

    Args:
        model: any transformers model whose layers attend through the ordinary attention interface.
        engine: the shape of the cache; `max_model_len` must be set.
        shapes_of: the device type whose shapes to use; None is the model's own.

    Raises:
        ConfigError: the model has layers whose state cannot be rolled back.
    """

    def __init__(self, model: PreTrainedModel, engine: EngineConfig, shapes_of: str | None = None) -> None:
        config = model.config.get_text_config()
        foreign = set(getattr(config, "layer_types", None) or []) - ROLLING_BACK
        if foreign:
            raise ConfigError(f"{model.config.model_type}: layers of type {sorted(foreign)} cannot roll back a segment")
        assert engine.max_model_len is not None
        self.model = model.eval()
        self.model.set_attn_implementation(SLOT_ATTENTION)
        self.body = model.base_model
        self.device = model.device
        self.vocabulary_size = config.vocab_size
        self.prefill_chunk = engine.prefill_chunk
        self.shapes = SHAPES[shapes_of or self.device.type]
        num_rows = _rounded_up(max(engine.slots, MIN_WIDTH), self.shapes.width_multiple)
        self.table = TokenTable(num_rows, engine.max_model_len)
        self.cache = SlotCache(config.num_hidden_layers, self.table.lengths_S, engine.max_model_len)

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
        waves = plan_feeds(self.table, slots_R, prefixes, keep_last)
        self._arrange(waves, slots_R, prefixes)
        for wave in waves:
            for feed in wave:
                if feed.copy_from is not None:
                    self.cache.copy_columns(feed.copy_from, int(slots_R[feed.row]), feed.copy_start, feed.start)
            ends = {feed.row: feed.end for feed in wave}
            for group in group_by_length(wave, self.prefill_chunk, self.shapes.forward_tokens):
                self._feed(group, ends, slots_R, prefixes, sink)
                pushed_R[[feed.row for feed in group]] += [feed.num_tokens for feed in group]
            for feed in wave:
                self.table.set(int(slots_R[feed.row]), prefixes[feed.row][: feed.end])
        return pushed_R

    def _arrange(self, waves: list[list[Feed]], slots_R: npt.NDArray[np.int64], prefixes: list[TokenArray]) -> None:
        """Lay the cohort out side by side, newcomers last: the others are then one slice in every forward."""
        num_tokens_R = np.zeros(len(slots_R), dtype=np.int64)
        for wave in waves:
            for feed in wave:
                num_tokens_R[feed.row] = feed.num_tokens
        lengths_R = np.array([len(prefix) for prefix in prefixes])
        is_new_R = num_tokens_R > 2 * np.median(num_tokens_R) + MAX_PADDING_TOKENS
        width = self.shapes.width(len(slots_R))
        places = np.arange(0, len(self.table.lengths_S) - width + 1, self.shapes.width_multiple)
        self.cache.arrange(slots_R, lengths_R, is_new_R, places)

    def window(self, slots_R: npt.NDArray[np.int32]) -> tuple[int, npt.NDArray[np.int64]]:
        """The first storage row of a cohort that `catch_up` laid out, and the cohort's order from there on."""
        rows, order = self.cache.select(slots_R.astype(np.int64))
        assert isinstance(rows, slice), "a cohort lies side by side"
        return rows.start, order

    def _feed(
        self,
        group: list[Feed],
        ends: dict[int, int],
        slots_R: npt.NDArray[np.int64],
        prefixes: list[TokenArray],
        sink: HiddenSink | None,
    ) -> None:
        """One forward over a group of chunks of like length, right-padded to the longest."""
        rows, order = self.cache.select(slots_R[[feed.row for feed in group]])
        group = [group[i] for i in order]
        num_tokens = max(MIN_WIDTH, *(feed.num_tokens for feed in group))
        tokens_RT = np.zeros((len(group), num_tokens), dtype=np.int64)
        for i, feed in enumerate(group):
            tokens_RT[i, : feed.num_tokens] = prefixes[feed.row][feed.start : feed.end]
        starts_R = np.array([feed.start for feed in group])
        hidden_RTH = self.forward_hidden(rows, starts_R, tokens_RT)
        for i, feed in enumerate(group):
            if sink is not None and feed.end == ends[feed.row]:
                sink(feed, hidden_RTH[i, feed.num_tokens - 1])

    def forward_hidden(
        self, rows: Rows, starts_R: npt.NDArray[np.int64], tokens_RT: npt.NDArray[np.int64]
    ) -> torch.Tensor:
        """Last hidden states [R, T, H] of new tokens that start at each row's own position."""
        lengths_R = None if not starts_R.any() else starts_R + tokens_RT.shape[1]
        return self._forward(self.body, rows, starts_R, tokens_RT, lengths_R).last_hidden_state

    def next_logits(
        self, rows: Rows, starts_W: npt.NDArray[np.int64], tokens_W: npt.NDArray[np.int64], num_rows: int
    ) -> torch.Tensor:
        """Logits [W, V] after one more token of every row; rows from `num_rows` on are fillers."""
        lengths_W = starts_W + 1
        lengths_W[num_rows:] = lengths_W[:num_rows].max()
        return self._forward(self.model, rows, starts_W, tokens_W[:, None], lengths_W, logits_to_keep=1).logits[:, -1]

    def next_logits_static(
        self, rows: slice, starts_W: torch.Tensor, tokens_W: torch.Tensor, read_length: int
    ) -> torch.Tensor:
        """The same from tensors on the device, in shapes that depend on nothing else."""
        position_ids = self.cache.begin(rows, starts_W, 1, read_length)
        return self._run(self.model, tokens_W[:, None], position_ids, logits_to_keep=1).logits[:, -1]

    def _forward(
        self,
        module: PreTrainedModel,
        rows: Rows,
        starts_R: npt.NDArray[np.int64],
        tokens_RT: npt.NDArray[np.int64],
        lengths_R: npt.NDArray[np.int64] | None,
        **options: Any,
    ) -> Any:
        """One forward; `lengths_R` columns are attended to, None when every row starts at 0."""
        groups = () if lengths_R is None else row_groups([self.padded_length(n) for n in lengths_R.tolist()])
        read_length = max((group.length for group in groups), default=None)
        position_ids = self.cache.begin(rows, self.to_device(starts_R), tokens_RT.shape[1], read_length)
        return self._run(module, self.to_device(tokens_RT), position_ids, row_groups=groups, **options)

    def _run(self, module: PreTrainedModel, tokens_RT: torch.Tensor, position_ids: torch.Tensor, **options: Any) -> Any:
        return module(
            input_ids=tokens_RT, position_ids=position_ids, past_key_values=self.cache, use_cache=True, **options
        )

    def to_device(self, array: npt.NDArray[Any]) -> torch.Tensor:
        """Copy to the model's device, without waiting for it where there is one."""
        tensor = torch.from_numpy(array)
        return tensor.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else tensor

    def padded_length(self, length: int) -> int:
        """Columns to read for `length` valid ones."""
        return min(_rounded_up(length, self.shapes.read_multiple), self.cache.capacity)


def row_groups(lengths_R: list[int]) -> tuple[RowGroup, ...]:
    """Neighbouring rows that read to the length of the longest of them."""
    firsts = range(0, len(lengths_R), GROUP_ROWS)
    ends = [min(first + GROUP_ROWS, len(lengths_R)) for first in firsts]
    return tuple(RowGroup(first, end, max(lengths_R[first:end])) for first, end in zip(firsts, ends, strict=True))


def _rounded_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
