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

from actors.engines.attention import row_groups, with_slot_attention
from actors.engines.layer_types import layer_refusal
from actors.engines.prefix_plan import Feed, TokenTable, group_by_length, plan_feeds
from actors.engines.rotary import hold_frequencies, marked, switch_length
from actors.engines.shapes import MIN_ROWS, SHAPES, rounded_up
from actors.engines.slot_cache import SlotCache
from pipeline.config.decoding import EngineConfig
from pipeline.errors import ConfigError
from pipeline.records import TokenArray

HiddenSink = Callable[[Feed, torch.Tensor], None]
CopySink = Callable[[Feed], None]


@dataclass(frozen=True, slots=True)
class StepInputs:
    """The storage rows of a static step, which of its slots come in which order, and its W rows' places and tokens."""

    rows: slice
    order: npt.NDArray[np.int64]
    starts_W: torch.Tensor
    tokens_W: torch.Tensor


class SlotModel:
    """Owns the model, its slot cache and the table of what the slots hold. One call at a time.

    Args:
        model: any transformers model whose layers attend through the ordinary attention interface.
        engine: the shape of the cache; `slots` and `max_model_len` must be set.
        shapes_of: the device type whose shapes to use; None is the model's own.

    Raises:
        ConfigError: the model cannot be run in slots; the message says why, not which model it is.
    """

    def __init__(self, model: PreTrainedModel, engine: EngineConfig, shapes_of: str | None = None) -> None:
        config = model.config.get_text_config(decoder=True)
        if refusal := layer_refusal(model.config):
            raise ConfigError(refusal)
        assert engine.slots is not None and engine.max_model_len is not None
        self.model = with_slot_attention(model.eval())
        self.body = body_of(model)
        self.switch = switch_length(model, engine.max_model_len)
        self.device = model.device
        self.vocabulary_size = config.vocab_size
        self.shapes = SHAPES[shapes_of or self.device.type]
        self.prefill_chunk = min(engine.prefill_chunk, self.shapes.chunk_tokens)
        self.table = TokenTable(self.shapes.width(engine.slots), engine.max_model_len)
        num_columns = self.shapes.feed_length(engine.max_model_len) + 1
        self.cache = SlotCache(config.num_hidden_layers, self.table.lengths_S, engine.max_model_len, num_columns)
        hold_frequencies(model, self.switch, self._row_lengths)

    def _row_lengths(self) -> torch.Tensor:
        lengths_R = self.cache.step.lengths_R
        assert lengths_R is not None
        return lengths_R

    def reset(self) -> None:
        """Forget what the slots hold."""
        self.table.clear()
        self.cache.reset_order()

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
        known = [marked(prefix, len(prefix), self.switch) for prefix in prefixes]
        waves = plan_feeds(self.table, slots_R, known, keep_last)
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
                self.table.set(int(slots_R[feed.row]), known[feed.row][: feed.end])
        return pushed_R

    def hold(self, slot: int, tokens: TokenArray) -> None:
        """Say that decode steps have brought a slot up to these tokens."""
        self.table.set(slot, marked(tokens, len(tokens), self.switch))

    def step_inputs(
        self,
        slots_R: npt.NDArray[np.int64],
        starts_R: npt.NDArray[np.int64],
        tokens_R: npt.NDArray[np.int32],
    ) -> "StepInputs":
        """What a static step of these slots reads; its fillers write to the dump column, where they disturb nothing."""
        first, order = self._window(slots_R)
        width = self.shapes.width(len(order))
        starts_W = np.full(width, self.cache.num_columns - 1, dtype=np.int64)
        tokens_W = np.zeros(width, dtype=np.int64)
        starts_W[: len(order)], tokens_W[: len(order)] = starts_R[order], tokens_R[order]
        return StepInputs(slice(first, first + width), order, self.to_device(starts_W), self.to_device(tokens_W))

    def _window(self, slots_R: npt.NDArray[np.int64]) -> tuple[int, npt.NDArray[np.int64]]:
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
        lengths_R = np.array([len(prefixes[feed.row]) for feed in group])
        hidden_RTH = self.forward_hidden(rows_R, starts_R, tokens_RT, lengths_R)
        if sink is not None:
            for i, feed in enumerate(group):
                sink(feed, hidden_RTH[i, : feed.num_tokens])

    def forward_hidden(
        self,
        rows_R: npt.NDArray[np.int64],
        starts_R: npt.NDArray[np.int64],
        tokens_RT: npt.NDArray[np.int64],
        lengths_R: npt.NDArray[np.int64],
    ) -> torch.Tensor:
        """Last hidden states [R, T, H] of new tokens that start at each storage row's own position, of sequences that
        will have `lengths_R` tokens."""
        num_columns = (
            [self.shapes.feed_length(int(start) + tokens_RT.shape[1]) for start in starts_R] if starts_R.any() else []
        )
        return self._forward(self.body, rows_R, starts_R, tokens_RT, num_columns, lengths_R).last_hidden_state

    def next_logits(
        self, rows_A: npt.NDArray[np.int64], starts_A: npt.NDArray[np.int64], tokens_A: npt.NDArray[np.int64]
    ) -> torch.Tensor:
        """Logits [A, V] after one more token of every storage row. Where a step needs more rows, the last one's stands
        in for them and writes to the dump column, where it disturbs nothing."""
        num_rows, num_fillers = len(rows_A), self.shapes.width(len(rows_A)) - len(rows_A)
        num_columns = [self.shapes.step_length(start + 1) for start in starts_A.tolist()]
        if num_fillers:
            rows_A, tokens_A = (np.append(axis, np.repeat(axis[-1], num_fillers)) for axis in (rows_A, tokens_A))
            starts_A = np.append(starts_A, np.repeat(self.cache.num_columns - 1, num_fillers))
            num_columns += num_columns[-1:] * num_fillers
        output = self._forward(
            self.model, rows_A, starts_A, tokens_A[:, None], num_columns, starts_A + 1, logits_to_keep=1
        )
        return output.logits[:num_rows, -1]

    def next_logits_static(
        self, rows: slice, starts_W: torch.Tensor, tokens_W: torch.Tensor, read_length: int
    ) -> torch.Tensor:
        """The same from tensors on the device, in shapes that depend on nothing else."""
        lengths_W = None if self.switch is None else starts_W + 1
        position_ids = self.cache.begin(rows, starts_W, 1, read_length, lengths_W)
        return self._run(self.model, tokens_W[:, None], position_ids, logits_to_keep=1).logits[:, -1]

    def _forward(
        self,
        module: PreTrainedModel,
        rows_R: npt.NDArray[np.int64],
        starts_R: npt.NDArray[np.int64],
        tokens_RT: npt.NDArray[np.int64],
        num_columns: list[int],
        lengths_R: npt.NDArray[np.int64],
        **options: Any,
    ) -> Any:
        """One forward; each row attends to its own number of columns, or to the new tokens only if there are none."""
        groups = row_groups(rows_R, [min(length, self.cache.num_columns) for length in num_columns])
        read_length = max((group.length for group in groups), default=None)
        rows, starts = self.to_device(rows_R), self.to_device(starts_R)
        lengths = None if self.switch is None else self.to_device(lengths_R)
        position_ids = self.cache.begin(rows, starts, tokens_RT.shape[1], read_length, lengths)
        return self._run(module, self.to_device(tokens_RT), position_ids, row_groups=groups, **options)

    def _run(self, module: PreTrainedModel, tokens_RT: torch.Tensor, position_ids: torch.Tensor, **options: Any) -> Any:
        return module(
            input_ids=tokens_RT, position_ids=position_ids, past_key_values=self.cache, use_cache=True, **options
        )

    def to_device(self, array: npt.NDArray[Any]) -> torch.Tensor:
        """Copy to the model's device, without waiting for it where there is one."""
        tensor = torch.from_numpy(array)
        return tensor.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else tensor


def body_of(model: PreTrainedModel) -> PreTrainedModel:
    """The part of a model that gives hidden states, the model itself where it has no head; raises ConfigError when
    there are more than one."""
    if model.base_model is not model:
        return model.base_model
    parts = [part for part in model.children() if isinstance(part, PreTrainedModel)]
    if not parts and model.get_output_embeddings() is None and not hasattr(model, "score"):
        return model
    if len(parts) != 1:
        raise ConfigError(f"{model.config.model_type} has {len(parts)} models below its head instead of one")
    return parts[0]
