"""Decoding a segment in lockstep where shapes may change from step to step: the way of a CPU.

The window of storage rows shrinks as rows finish, and every group of rows reads no more columns than its own.

Axes: R rows of the cohort, W rows of a decode step (active ones and fillers), T tokens of the segment, V vocabulary.
"""

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from actors.engines.sampling import Sampler
from actors.engines.slot_model import SlotModel
from pipeline.records import ProposeCohort


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a cohort drew: tokens int32 [R, T], right-padded; how many of each row count, how many decode steps it took
    (one more than tokens where an entropy stop saw the next one coming), which ended, and which met logits that were
    not finite on the way."""

    tokens_RT: npt.NDArray[np.int32]
    lengths_R: npt.NDArray[np.int32]
    num_steps_R: npt.NDArray[np.int32]
    finished_R: npt.NDArray[np.bool_]
    invalid_R: npt.NDArray[np.bool_]
    sampling_s: float


class ShrinkingDecoder:
    """Decodes over a window of neighbouring storage rows that shrinks as rows finish."""

    def __init__(self, slots: SlotModel, end_token_ids: torch.Tensor) -> None:
        self.slots = slots
        self.end_token_ids = end_token_ids

    def decode(self, cohort: ProposeCohort) -> Decoded:
        """One segment per row; the slots hold all of their prefixes but the last token."""
        first, active = self.slots.window(cohort.slots_R)
        longest = int((cohort.prefix_lengths_R + cohort.num_tokens_R).max())
        sampler = Sampler.of(cohort, self.slots.vocabulary_size, self.slots.device)
        R, T = len(active), int(cohort.num_tokens_R.max())
        tokens_RT = np.zeros((R, T), dtype=np.int32)
        lengths_R, num_steps_R, sampling_s = np.zeros(R, dtype=np.int32), np.zeros(R, dtype=np.int32), 0.0
        finished_R, invalid_R = np.zeros(R, dtype=np.bool_), np.zeros(R, dtype=np.bool_)
        last_token_R = cohort.last_tokens_R.astype(np.int64)
        active_sampler = sampler.take(torch.from_numpy(active))
        for t in range(T):
            logits_WV = self._step(first, cohort.prefix_lengths_R[active] - 1 + t, last_token_R[active])
            sampling_started_s = time.perf_counter()
            drawn, is_finite = active_sampler.sample(logits_WV[: len(active)], torch.tensor([t]))
            stops = active_sampler.stops(logits_WV[: len(active)], torch.tensor([t]))
            stopped = np.False_ if stops is None else stops.cpu().numpy()
            ended = torch.isin(drawn, self.end_token_ids).cpu().numpy() & ~stopped
            last_token_R[active] = tokens_RT[active, t] = drawn.cpu().numpy()
            sampling_s += time.perf_counter() - sampling_started_s
            num_steps_R[active] = t + 1
            lengths_R[active] = t + 1 - stopped
            finished_R[active] = ended
            invalid_R[active] |= ~is_finite.cpu().numpy()
            done = ended | stopped | (cohort.num_tokens_R[active] == t + 1)
            if done.all():
                break
            if done.any():
                active = self._compact(first, active, done, longest)
                active_sampler = sampler.take(torch.from_numpy(active))
        return Decoded(tokens_RT, lengths_R, num_steps_R, finished_R, invalid_R, sampling_s)

    def _step(self, first: int, starts: npt.NDArray[np.int32], last_tokens: npt.NDArray[np.int64]) -> torch.Tensor:
        """One decode step; logits [W, V]. Filler rows stand on the dump column, where they disturb nothing."""
        width = self.slots.shapes.width(len(starts))
        starts_W = np.full(width, self.slots.cache.num_columns - 1, dtype=np.int64)
        tokens_W = np.zeros(width, dtype=np.int64)
        starts_W[: len(starts)], tokens_W[: len(starts)] = starts, last_tokens
        return self.slots.next_logits(slice(first, first + width), starts_W, tokens_W, len(starts))

    def _compact(
        self, first: int, active: npt.NDArray[np.int64], done: npt.NDArray[np.bool_], length: int
    ) -> npt.NDArray[np.int64]:
        """Move finished rows behind the active ones, so that the next step is still one slice."""
        num_active = int((~done).sum())
        holes = np.flatnonzero(done[:num_active])
        fillings = num_active + np.flatnonzero(~done[num_active:])
        self.slots.cache.move_rows(first + fillings, first + holes, length)
        order = np.arange(len(active))
        order[holes], order[fillings] = fillings, holes
        return active[order][:num_active]
