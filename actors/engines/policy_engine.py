"""The policy engine: one segment per row, in lockstep, from the slot cache.

Each prompt token is fed once and each proposed token once: the last prefix token is the first decode step, and the
last sampled token is fed only if a later call brings it back inside a longer prefix.

Axes: R rows of the cohort, W rows of a decode step (R and fillers), T tokens of the segment, V vocabulary.
"""

import time

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from actors.engines.sampling import Sampler
from actors.engines.slot_model import MIN_WIDTH, SlotModel
from pipeline.config import EngineConfig
from pipeline.records import CallStats, Proposals, ProposeCohort, TokenArray, split_prefixes


class PolicyEngine:
    """Draws candidate segments.

    Args:
        model: a causal language model.
        engine: the cache's shape.
        end_token_ids: tokens that finish a response.
    """

    def __init__(self, model: PreTrainedModel, engine: EngineConfig, end_token_ids: tuple[int, ...]) -> None:
        self.slots = SlotModel(model, engine)
        self.end_token_ids = torch.tensor(end_token_ids, dtype=torch.int64, device=self.slots.device)

    @torch.inference_mode()
    def propose(self, cohort: ProposeCohort) -> Proposals:
        """One candidate segment per row: at most `num_tokens_R`, fewer when an end token is drawn.

        Slots must differ within a cohort, and prefix + segment must fit `max_model_len`.
        """
        started_s = time.time()
        slots_R = cohort.slots_R.astype(np.int64)
        prefixes = split_prefixes(cohort.prefix_tokens, cohort.prefix_lengths_R)
        pushed_R = self.slots.catch_up(slots_R, prefixes, keep_last=True)
        self.sampling_s, prefill_s = 0.0, time.time() - started_s
        tokens_RT, lengths_R, finished_R = self._decode(cohort, slots_R, prefixes)
        for slot, prefix, tokens, length in zip(slots_R, prefixes, tokens_RT, lengths_R, strict=True):
            self.slots.table.set(int(slot), np.concatenate([prefix, tokens[: length - 1]]))
        stats = CallStats(pushed_R + lengths_R, started_s, time.time(), prefill_s, self.sampling_s)
        return Proposals(tokens_RT, lengths_R, finished_R, stats)

    def _decode(
        self, cohort: ProposeCohort, slots_R: npt.NDArray[np.int64], prefixes: list[TokenArray]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
        """Lockstep decoding over a window of neighbouring storage rows that shrinks as rows finish."""
        R, cache = len(slots_R), self.slots.cache
        window, active = cache.select(slots_R)
        assert isinstance(window, slice), "catch_up lays a cohort out side by side"
        first, longest = window.start, int((cohort.prefix_lengths_R + cohort.num_tokens_R).max())
        sampler = Sampler.of(cohort, self.slots.model.config.get_text_config().vocab_size, self.slots.device)
        tokens_RT = np.zeros((R, int(cohort.num_tokens_R.max())), dtype=np.int32)
        lengths_R, finished_R = np.zeros(R, dtype=np.int32), np.zeros(R, dtype=np.bool_)
        last_token_R = np.array([prefix[-1] for prefix in prefixes], dtype=np.int64)
        active_sampler = sampler.take(torch.from_numpy(active))
        for t in range(tokens_RT.shape[1]):
            logits_WV = self._step(first, cohort.prefix_lengths_R[active] - 1 + t, last_token_R[active])
            sampling_started_s = time.perf_counter()
            drawn = active_sampler.sample(logits_WV[: len(active)], t)
            self.sampling_s += time.perf_counter() - sampling_started_s
            ended = torch.isin(drawn, self.end_token_ids).cpu().numpy()
            last_token_R[active] = tokens_RT[active, t] = drawn.cpu().numpy()
            lengths_R[active] = t + 1
            finished_R[active] = ended
            done = ended | (cohort.num_tokens_R[active] == t + 1)
            if done.all():
                break
            if done.any():
                active = self._compact(first, active, done, longest)
                active_sampler = sampler.take(torch.from_numpy(active))
        return tokens_RT, lengths_R, finished_R

    def _step(self, first: int, starts: npt.NDArray[np.int32], last_tokens: npt.NDArray[np.int64]) -> torch.Tensor:
        """One decode step; logits [W, V]. Filler rows stand on the dump column, where they disturb nothing."""
        width, cache = max(len(starts), MIN_WIDTH), self.slots.cache
        starts_W = np.full(width, cache.capacity - 1, dtype=np.int64)
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
