"""The policy engine: one segment per row, in lockstep, from the slot cache.

Each prompt token is fed once and each proposed token once: the last prefix token is the first decode step, and the
last sampled token is fed only if a later call brings it back inside a longer prefix.
"""

import time

import numpy as np
import torch
from transformers import PreTrainedModel

from actors.engines.shrinking_decoding import Call, Decoder, ShrinkingDecoder
from actors.engines.slot_model import SlotModel
from actors.engines.static_decoding import StaticDecoder
from pipeline.config.decoding import EngineConfig
from pipeline.protocol import CallStats, Proposals, ProposeCohort, split_prefixes

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
        self.decoder: Decoder = DECODERS[shapes_of or self.slots.device.type](self.slots, end_tokens)
        self._busy_s = self._prefill_s = self._sampling_s = 0.0

    def propose(self, cohort: ProposeCohort) -> Proposals:
        """One candidate segment per row: at most `num_tokens_R`, fewer when an end token is drawn.

        Slots must differ within a cohort, and prefix + segment must fit `max_model_len`.
        """
        call = self.add_request(cohort)
        while not (ended := dict(self.step())):
            pass
        return ended[call]

    @torch.inference_mode()
    def add_request(self, cohort: ProposeCohort) -> Call:
        """Let a call join those under way at their next token; their slots must differ from its own."""
        started_s = time.time()
        slots_R = cohort.slots_R.astype(np.int64)
        prefixes = split_prefixes(cohort.prefix_tokens, cohort.prefix_lengths_R)
        pushed_R = self.slots.catch_up(slots_R, prefixes, keep_last=True)
        # What lies beyond is about to be overwritten, and no other slot may copy it meanwhile.
        self.slots.table.truncate(slots_R, cohort.prefix_lengths_R - 1)
        self._prefill_s += time.time() - started_s
        call = Call.of(cohort, prefixes, pushed_R, started_s)
        self.decoder.join(call)
        self._busy_s += time.time() - started_s
        return call

    @torch.inference_mode()
    def step(self) -> list[tuple[Call, Proposals]]:
        """One more token of every row under way; returns the calls whose rows are all done, with their answers."""
        started_s = time.time()
        ended = self.decoder.step()
        self._busy_s += time.time() - started_s
        return [(call, self._proposals(call)) for call in ended]

    def abort_all(self) -> None:
        """Forget the calls under way; what their slots held before them stays valid."""
        self.decoder.abort_all()

    def _proposals(self, call: Call) -> Proposals:
        """The answer, charged with the time since the last answer."""
        sampling_s = self.decoder.sampling_s - self._sampling_s
        spent = {"prefill_s": self._prefill_s, "sampling_s": sampling_s, "shared_busy_s": self._busy_s}
        self._busy_s, self._prefill_s, self._sampling_s = 0.0, 0.0, self.decoder.sampling_s
        joins = self.decoder.can_be_joined
        stats = CallStats(call.pushed_R + call.num_steps_R, call.started_s, time.time(), can_be_joined=joins, **spent)
        return Proposals(call.tokens_RT, call.lengths_R, call.finished_R, stats, call.invalid_R)
