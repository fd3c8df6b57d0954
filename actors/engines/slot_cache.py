"""Key/value storage for slots: every slot has its own length, and rolling back is starting lower next time.

Invariants:
- column index equals position; a column at or beyond a row's valid length may hold anything, since the causal mask
  hides it until it is written again;
- the last column is a dump: padding and filler rows write there and nobody reads it as a real position;
- a slot lives in one storage row; attention reads storage rows where they lie, neighbours together, and copies
  nothing; where shapes must not change, rows are exchanged until a cohort is a contiguous slice.

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
    """Where the rows of the forward in progress stand: a slice of storage rows, or an index of some that are read in
    place. `starts_R` is the position of each row's first new token, `lengths_R` how many tokens its whole sequence has,
    told where that matters."""

    rows: Rows
    starts_R: torch.Tensor
    columns_RT: torch.Tensor
    read_length: int
    is_fresh: bool
    lengths_R: torch.Tensor | None

    @property
    def num_rows(self) -> int:
        return len(self.starts_R)


class SlotLayer(CacheLayerMixin):
    """One layer's keys and values [S, K, num_columns, D], allocated when the first forward shows their shape."""

    is_sliding = False
    is_compileable = False

    def __init__(self, cache: "SlotCache") -> None:
        super().__init__()
        self.cache = cache

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        shape = (self.cache.num_rows, key_states.shape[1], self.cache.num_columns)
        self.keys = key_states.new_zeros(*shape, key_states.shape[-1])
        self.values = value_states.new_zeros(*shape, value_states.shape[-1])
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new columns, return the columns to attend to: [R, K, L, D] each, or those of all storage rows."""
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
        return states if step.is_fresh else storage[:, :, : step.read_length]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.cache.step.read_length, 0

    def get_seq_length(self) -> int:
        return self.cache.step.read_length

    def get_max_length(self) -> int:
        return self.cache.num_columns


class SlotCache(Cache):
    """The storage of all layers and the map from slot to storage row.

    Args:
        num_layers: attention layers of the model.
        lengths_S: valid columns of every slot, kept up to date by whoever feeds them.
        max_len: most tokens of one sequence.
        num_columns: what is allocated for each, the dump column included; more than `max_len`.
    """

    def __init__(self, num_layers: int, lengths_S: npt.NDArray[np.int64], max_len: int, num_columns: int) -> None:
        super().__init__(layers=[SlotLayer(self) for _ in range(num_layers)])
        self.num_rows = len(lengths_S)
        self.lengths_S = lengths_S
        self.max_len, self.num_columns = max_len, num_columns
        self.row_of_slot = np.arange(self.num_rows)
        self.slot_of_row = np.arange(self.num_rows)
        self.step: Step

    def get_query_offset(self, layer_idx: int = 0) -> torch.Tensor:
        """Position of each row's first new token, [R]; read by `slot_mask`."""
        return self.step.starts_R

    def begin(
        self,
        rows: Rows,
        starts_R: torch.Tensor,
        num_tokens: int,
        read_length: int | None,
        lengths_R: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Declare the next forward; returns the position ids [R, T].

        Positions past the end are padding: they are clamped to the dump column when written, and are 0 as ids, so that
        learned position tables are never read out of range and nothing that looks at the largest position sees them.

        Args:
            read_length: columns to attend to; None says that every row starts at 0: the new tokens attend to each
                other only.
            lengths_R: tokens of each row's whole sequence, where the model asks for them.
        """
        positions_RT = starts_R[:, None] + torch.arange(num_tokens, device=starts_R.device)
        columns_RT = positions_RT.clamp(max=self.num_columns - 1)
        self.step = Step(rows, starts_R, columns_RT, read_length or num_tokens, read_length is None, lengths_R)
        return positions_RT.masked_fill(positions_RT >= self.max_len, 0)

    def reset_order(self) -> None:
        """Every slot in the storage row of its own number, as at the start; what slots hold is lost."""
        self.row_of_slot[:] = self.slot_of_row[:] = np.arange(self.num_rows)

    def select(self, slots_R: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The storage rows of these slots, ascending, and the order of the slots in them."""
        rows_R = self.row_of_slot[slots_R]
        order = np.argsort(rows_R, kind="stable")
        return rows_R[order], order

    def sort_empty(self, slots_R: npt.NDArray[np.int64], lengths_R: npt.NDArray[np.int64]) -> None:
        """Exchange the storage rows of slots that hold nothing, so that those of like length become neighbours."""
        is_empty_R = self.lengths_S[slots_R] == 0
        slots = slots_R[is_empty_R][np.argsort(lengths_R[is_empty_R], kind="stable")]
        self.row_of_slot[slots] = np.sort(self.row_of_slot[slots])
        self.slot_of_row[self.row_of_slot[slots]] = slots

    def arrange(self, slots_R: npt.NDArray[np.int64], places: npt.NDArray[np.int64]) -> int:
        """Exchange storage rows until these slots, all different, lie side by side, where most of them are already.

        Args:
            places: storage rows at which they may begin.

        Returns:
            The storage row at which they begin.
        """
        R, rows_R = len(slots_R), self.row_of_slot[slots_R]
        occupied = np.zeros(self.num_rows, dtype=np.int64)
        occupied[rows_R] = 1
        hits = np.convolve(occupied, np.ones(R, dtype=np.int64), mode="valid")
        first = int(places[np.argmax(hits[places])])
        window = np.arange(first, first + R)
        moves = rows_R[(rows_R < first) | (rows_R >= first + R)]
        self.move_rows(moves, np.setdiff1d(window, rows_R), int(self.lengths_S.max()))
        return first

    def move_rows(self, sources: npt.NDArray[np.int64], targets: npt.NDArray[np.int64], length: int) -> None:
        """Exchange the first `length` columns of storage rows `sources` with those of `targets`; no row is in both.
        Slots keep their contents, of which `length` must cover the valid ones."""
        if len(sources) == 0:
            return
        source, target = np.concatenate([sources, targets]), np.concatenate([targets, sources])
        for layer in self.layers:
            if layer.is_initialized and length:
                layer.keys[target, :, :length] = layer.keys[source, :, :length]
                layer.values[target, :, :length] = layer.values[source, :, :length]
        self.slot_of_row[target] = self.slot_of_row[source]
        self.row_of_slot[self.slot_of_row[target]] = target

    def copy_columns(self, source_slot: int, target_slot: int, start: int, end: int) -> None:
        """Fork: give `target_slot` the columns [start, end) of `source_slot`."""
        source, target = self.row_of_slot[source_slot], self.row_of_slot[target_slot]
        for layer in self.layers:
            layer.keys[target, :, start:end] = layer.keys[source, :, start:end]
            layer.values[target, :, start:end] = layer.values[source, :, start:end]
