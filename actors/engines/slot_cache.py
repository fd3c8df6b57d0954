"""Key/value storage for slots: every slot has its own length, and rolling back is starting lower next time.

Invariants:
- column index equals position; a column at or beyond a row's valid length may hold anything, since the causal mask
  hides it until it is written again;
- the last column is a dump: padding and filler rows write there and nobody reads it as a real position;
- a slot lives in one storage row, and rows may be exchanged so that a cohort is a contiguous slice: a decode step
  then reads views and copies nothing.

Axes: S storage rows, R rows of one forward, T new tokens, L columns, K key/value heads, D head size.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from transformers.cache_utils import Cache, CacheLayerMixin

Rows = slice | torch.Tensor


@dataclass(slots=True)
class Step:
    """Where the rows of the forward in progress stand. `starts_R` is the position of each row's first new token."""

    rows: Rows
    starts_R: torch.Tensor
    columns_RT: torch.Tensor
    read_length: int
    is_fresh: bool

    @property
    def num_rows(self) -> int:
        return len(self.starts_R)


class SlotLayer(CacheLayerMixin):
    """One layer's keys and values [S, K, capacity, D], allocated when the first forward shows their shape."""

    is_sliding = False
    is_compileable = False

    def __init__(self, cache: "SlotCache") -> None:
        super().__init__()
        self.cache = cache

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        shape = (self.cache.num_rows, key_states.shape[1], self.cache.capacity)
        self.keys = key_states.new_zeros(*shape, key_states.shape[-1])
        self.values = value_states.new_zeros(*shape, value_states.shape[-1])
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new columns, return the columns to attend to: [R, K, L, D] each."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        step = self.cache.step
        return self._exchange(self.keys, key_states, step), self._exchange(self.values, value_states, step)

    @staticmethod
    def _exchange(storage: torch.Tensor, states: torch.Tensor, step: Step) -> torch.Tensor:
        if isinstance(step.rows, slice):
            view = storage[step.rows]
            index = torch.arange(step.num_rows, device=storage.device)[:, None]
            view[index, :, step.columns_RT] = states.transpose(1, 2)
            return states if step.is_fresh else view[:, :, : step.read_length]
        storage[step.rows[:, None], :, step.columns_RT] = states.transpose(1, 2)
        return states if step.is_fresh else storage[step.rows, :, : step.read_length]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.cache.step.read_length, 0

    def get_seq_length(self) -> int:
        return self.cache.step.read_length

    def get_max_length(self) -> int:
        return self.cache.capacity


class SlotCache(Cache):
    """The storage of all layers and the map from slot to storage row.

    Args:
        num_layers: attention layers of the model.
        num_slots: sequences held at once.
        max_len: most tokens of one sequence.
        min_rows: fewest storage rows, so that a small cohort can be widened with filler rows.
    """

    def __init__(self, num_layers: int, num_slots: int, max_len: int, min_rows: int) -> None:
        super().__init__(layers=[SlotLayer(self) for _ in range(num_layers)])
        self.num_rows = max(num_slots, min_rows)
        self.capacity = max_len + 1
        self.row_of_slot = np.arange(self.num_rows)
        self.slot_of_row = np.arange(self.num_rows)
        self.step: Step

    def get_query_offset(self, layer_idx: int = 0) -> torch.Tensor:
        """Position of each row's first new token, [R]; read by `slot_mask`."""
        return self.step.starts_R

    def begin(self, rows: Rows, starts_R: torch.Tensor, num_tokens: int, read_length: int | None) -> torch.Tensor:
        """Declare the next forward; returns the position ids [R, T].

        `read_length` None says that every row starts at 0: the new tokens attend to each other only.

        Positions past the end are padding: they are clamped to the dump column when written, and to the last real
        position as ids, so that learned position tables are never read out of range.
        """
        positions_RT = starts_R[:, None] + torch.arange(num_tokens, device=starts_R.device)
        columns_RT = positions_RT.clamp(max=self.capacity - 1)
        self.step = Step(rows, starts_R, columns_RT, read_length or num_tokens, is_fresh=read_length is None)
        return positions_RT.clamp(max=self.capacity - 2)

    def select(self, slots_R: npt.NDArray[np.int64]) -> Rows:
        """The storage rows of these slots, in this order, as an index."""
        return torch.from_numpy(self.row_of_slot[slots_R])

    def arrange(self, slots_R: npt.NDArray[np.int64], width: int, length: int) -> tuple[int, npt.NDArray[np.int64]]:
        """Exchange storage rows until these slots fill the head of one window of `width` rows.

        The window is the one that already holds most of them, so that a steady cohort costs nothing. `length` must
        cover the valid length of every slot.

        Returns:
            The window's first row, and the order of the cohort inside it: `slots_R[order]` lie in rows
            first, first + 1, ...
        """
        occupied = np.zeros(self.num_rows, dtype=np.int64)
        occupied[self.row_of_slot[slots_R]] = 1
        head = np.convolve(occupied, np.ones(len(slots_R), dtype=np.int64), mode="valid")
        first = int(np.argmax(head[: self.num_rows - width + 1]))
        wanted = np.arange(first, first + len(slots_R))
        free = wanted[occupied[wanted] == 0]
        outside = np.setdiff1d(self.row_of_slot[slots_R], wanted)
        self.exchange_rows(free, outside, length)
        return first, np.argsort(self.row_of_slot[slots_R], kind="stable")

    def exchange_rows(self, rows_a: npt.NDArray[np.int64], rows_b: npt.NDArray[np.int64], length: int) -> None:
        """Swap the first `length` columns of storage rows pairwise; slots keep their contents.

        `length` must cover the valid length of every slot concerned.
        """
        if len(rows_a) == 0:
            return
        to, source = np.concatenate([rows_a, rows_b]), np.concatenate([rows_b, rows_a])
        for layer in self.layers:
            if layer.is_initialized:
                layer.keys[to, :, :length] = layer.keys[source, :, :length]
                layer.values[to, :, :length] = layer.values[source, :, :length]
        self.slot_of_row[to] = self.slot_of_row[source]
        self.row_of_slot[self.slot_of_row[to]] = to

    def copy_columns(self, source_slot: int, target_slot: int, start: int, end: int) -> None:
        """Fork: give `target_slot` the columns [start, end) of `source_slot`."""
        source, target = self.row_of_slot[source_slot], self.row_of_slot[target_slot]
        for layer in self.layers:
            layer.keys[target, :, start:end] = layer.keys[source, :, start:end]
            layer.values[target, :, start:end] = layer.values[source, :, start:end]
