"""Decoding a segment with shapes that never change: the way of a GPU.

Every tensor of a step has a fixed place and shape, so a step is captured once as a CUDA graph and replayed: no Python
and no launches between tokens. Sampling happens on the device, and a segment's tokens come to the host in one copy.
Rows that ended go on drawing tokens that nobody reads: it costs nothing, since a step's time is the weights'.
On a CPU the same steps run uncaptured, which is how they are tested where no GPU is at hand.

Axes: R rows of the cohort, W rows of a step (R and fillers), T tokens of the segment, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

from actors.engines.sampling import Sampler
from actors.engines.shrinking_decoding import Call
from actors.engines.slot_model import SlotModel

INVALID = -2  # stands for a token drawn from logits that were not finite
STOPPED = -3  # stands for the token before which an entropy stop ended the segment
WARM_UP_STEPS = 2  # before a capture, so that libraries have set themselves up


@dataclass(frozen=True, slots=True)
class StepShape:
    """All that a captured step depends on."""

    first: int
    width: int
    num_tokens: int
    read_length: int
    num_sorted: int
    cuts_mass: bool
    has_greedy: bool
    has_stops: bool


@dataclass(slots=True)
class StepState:
    """The tensors a step reads and writes, always in the same place."""

    tokens_W: torch.Tensor
    starts_W: torch.Tensor
    index_1: torch.Tensor
    drawn_WT: torch.Tensor
    sampler: Sampler

    def load(self, starts_W: torch.Tensor, tokens_W: torch.Tensor, sampler: Sampler) -> None:
        """Set everything to the start of a segment; a sampler of fewer rows leaves the fillers as they are."""
        self.starts_W.copy_(starts_W, non_blocking=True)
        self.tokens_W.copy_(tokens_W, non_blocking=True)
        self.index_1.zero_()
        for field in fields(Sampler):
            values = getattr(sampler, field.name)
            if isinstance(values, torch.Tensor):
                target = getattr(self.sampler, field.name)[: len(values)]
                (target[:, : values.shape[1]] if values.dim() == 2 else target).copy_(values)


class StaticDecoder:
    """Decodes all rows of a cohort to the end of the segment, one captured step per token."""

    can_be_joined = False

    def __init__(self, slots: SlotModel, end_token_ids: torch.Tensor) -> None:
        self.slots = slots
        self.end_token_ids = end_token_ids.cpu().numpy()
        self.sampling_s = 0.0
        self.abort_all()
        self.steps: dict[StepShape, tuple[StepState, Callable[[], None]]] = {}

    def abort_all(self) -> None:
        self.done: list[Call] = []

    def step(self) -> list[Call]:
        done, self.done = self.done, []
        return done

    def join(self, call: Call) -> None:
        """Decode the call to its end at once: a captured step belongs to one cohort."""
        cohort = call.cohort
        first, order = self.slots.window(cohort.slots_R.astype(np.int64))
        T = call.tokens_RT.shape[1]
        width = self.slots.shapes.width(len(order))
        longest = int((cohort.prefix_lengths_R + cohort.num_tokens_R).max())
        sampler = Sampler.of(cohort, self.slots.vocabulary_size, self.slots.device).take(torch.from_numpy(order))
        knobs = (sampler.num_sorted, sampler.cuts_mass, sampler.has_greedy, sampler.stop_entropy_R is not None)
        shape = StepShape(first, width, T, self.slots.shapes.step_length(longest), *knobs)
        if shape not in self.steps:
            self.steps[shape] = self._prepare(shape, sampler)
        state, step = self.steps[shape]
        starts_W = np.full(width, self.slots.cache.num_columns - 1, dtype=np.int64)
        tokens_W = np.zeros(width, dtype=np.int64)
        starts_W[: len(order)] = cohort.prefix_lengths_R[order] - 1
        tokens_W[: len(order)] = cohort.last_tokens_R[order]
        state.load(self.slots.to_device(starts_W), self.slots.to_device(tokens_W), sampler)
        for _ in range(T):
            step()
        call.tokens_RT[order] = state.drawn_WT[: len(order)].cpu().numpy()
        self._cut_at_ends(call)
        for row, slot in enumerate(cohort.slots_R.tolist()):
            self.slots.table.set(slot, call.held_tokens(row))
        self.done.append(call)

    def _cut_at_ends(self, call: Call) -> None:
        """Keep each row up to its end token, its entropy stop or its own limit."""
        tokens_RT, limits_R = call.tokens_RT, call.cohort.num_tokens_R
        num_tokens_R = np.minimum(limits_R, _first(tokens_RT == STOPPED))
        until_end_R = _first(np.isin(tokens_RT, self.end_token_ids)) + 1
        call.lengths_R[:] = np.minimum(until_end_R, num_tokens_R)
        call.num_steps_R[:] = call.lengths_R + ((call.lengths_R < until_end_R) & (num_tokens_R < limits_R))
        call.finished_R[:] = until_end_R <= num_tokens_R
        is_read_RT = np.arange(tokens_RT.shape[1]) < call.lengths_R[:, None]
        call.invalid_R[:] = ((tokens_RT == INVALID) & is_read_RT).any(axis=1)
        np.maximum(tokens_RT, 0, out=tokens_RT)

    def _prepare(self, shape: StepShape, sampler: Sampler) -> tuple[StepState, Callable[[], None]]:
        """The state of a shape and its step, captured where the device can."""
        device, W = self.slots.device, shape.width
        state = StepState(
            tokens_W=torch.zeros(W, dtype=torch.int64, device=device),
            starts_W=torch.full((W,), self.slots.cache.num_columns - 1, dtype=torch.int64, device=device),
            index_1=torch.zeros(1, dtype=torch.int64, device=device),
            drawn_WT=torch.zeros(W, shape.num_tokens, dtype=torch.int64, device=device),
            sampler=sampler.widened(W),
        )

        def step() -> None:
            logits_WV = self.slots.next_logits_static(
                slice(shape.first, shape.first + W), state.starts_W, state.tokens_W, shape.read_length
            )
            drawn_W, is_finite_W = state.sampler.sample(logits_WV, state.index_1)
            told_W = torch.where(is_finite_W, drawn_W, INVALID)
            stops_W = state.sampler.stops(logits_WV, state.index_1)
            told_W = told_W if stops_W is None else told_W.masked_fill(stops_W, STOPPED)
            state.drawn_WT.index_copy_(1, state.index_1, told_W[:, None])
            state.tokens_W.copy_(drawn_W)
            state.starts_W.add_(1)
            state.index_1.add_(1)

        return state, self._captured(state, step) if device.type == "cuda" else step

    def _captured(self, state: StepState, step: Callable[[], None]) -> Callable[[], None]:
        """The step as a CUDA graph; the warm-up writes to the dump column only."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_STEPS):
                step()
                state.index_1.zero_()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool):
            step()
        return graph.replay

    @property
    def pool(self) -> Any:
        """The memory that all captured steps share; only one of them runs at a time."""
        if not hasattr(self, "_pool"):
            self._pool = torch.cuda.graph_pool_handle()
        return self._pool


def _first(is_set_RT: np.ndarray) -> np.ndarray:
    """The first place of each row that is set, int64 [R]; one past the last for none."""
    return np.where(is_set_RT.any(axis=1), is_set_RT.argmax(axis=1), is_set_RT.shape[1])
