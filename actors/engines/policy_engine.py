"""The policy engine: one segment per row, in lockstep, from the slot cache.

Each prompt token is fed once and each proposed token once: the last prefix token is the first decode step, and the
last sampled token is fed only if a later call brings it back inside a longer prefix.
"""

import time

import numpy as np
import torch
from transformers import PreTrainedModel

from actors.engines.decoding import ShrinkingDecoder
from actors.engines.slot_model import SlotModel
from actors.engines.static_decoding import StaticDecoder
from pipeline.config import EngineConfig
from pipeline.records import CallStats, Proposals, ProposeCohort, split_prefixes

DECODERS: dict[str, type[ShrinkingDecoder] | type[StaticDecoder]] = {"cpu": ShrinkingDecoder, "cuda": StaticDecoder}


class PolicyEngine:
    """Draws candidate segments.

    Args:
        model: a causal language model.
        engine: the cache's shape.
        end_token_ids: tokens that finish a response.
        shapes_of: the device type whose shapes and decoder to use; None is the model's own.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        engine: EngineConfig,
        end_token_ids: tuple[int, ...],
        shapes_of: str | None = None,
    ) -> None:
        self.slots = SlotModel(model, engine, shapes_of)
        end_tokens = torch.tensor(end_token_ids, dtype=torch.int64, device=self.slots.device)
        self.decoder = DECODERS[shapes_of or self.slots.device.type](self.slots, end_tokens)

    @torch.inference_mode()
    def propose(self, cohort: ProposeCohort) -> Proposals:
        """One candidate segment per row: at most `num_tokens_R`, fewer when an end token is drawn.

        Slots must differ within a cohort, and prefix + segment must fit `max_model_len`.
        """
        started_s = time.time()
        slots_R = cohort.slots_R.astype(np.int64)
        prefixes = split_prefixes(cohort.prefix_tokens, cohort.prefix_lengths_R)
        pushed_R = self.slots.catch_up(slots_R, prefixes, keep_last=True)
        prefill_s = time.time() - started_s
        drawn = self.decoder.decode(cohort)
        for slot, prefix, tokens, length in zip(slots_R, prefixes, drawn.tokens_RT, drawn.lengths_R, strict=True):
            self.slots.table.set(int(slot), np.concatenate([prefix, tokens[: length - 1]]))
        stats = CallStats(pushed_R + drawn.num_steps_R, started_s, time.time(), prefill_s, drawn.sampling_s)
        return Proposals(drawn.tokens_RT, drawn.lengths_R, drawn.finished_R, stats, drawn.invalid_R)
