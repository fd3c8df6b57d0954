"""A random walk of many rows through an engine, beside plain forwards without any cache.

Rows start from ragged prompts, half of them with a head in common (a fork); every round some of them draw a candidate,
which is accepted, rejected, kept from an earlier attempt or given up for a new prompt. What is compared: every decode
step's logits, and every reward.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from actors.engines.policy_engine import PolicyEngine
from actors.engines.reward_engine import RewardEngine
from pipeline.protocol import ProposeCohort
from pipeline.records import TokenArray
from tests.tiny_models import MAX_LEN, VOCABULARY

END, FIRST_WORD = 1, 4
SEGMENT_TOKENS = 5
Walk = Generator[tuple[list[int], list[TokenArray]], list[TokenArray] | None, None]
Plain = Callable[[TokenArray, int], torch.Tensor]  # a sequence → its last logits [n, V], or its reward


@dataclass(frozen=True, slots=True)
class Setting:
    """How an engine is walked. `gentle`: no heads in common, and nothing older than the last attempt comes back."""

    slots: int
    shapes_of: str = "cpu"
    prefill_chunk: int = 512
    gentle: bool = False


def random_walk(setting: Setting, seed: int) -> Walk:
    """Yields slots and their prefixes, and is sent the candidates."""
    rng = np.random.default_rng(seed)
    head = _words(rng, 20)

    def prompt() -> TokenArray:
        tokens = _words(rng, int(rng.integers(1, 45)))
        return np.concatenate([head, tokens[:20]]) if not setting.gentle and rng.random() < 0.5 else tokens

    prefixes = [prompt() for _ in range(setting.slots)]
    earlier: list[TokenArray | None] = [None] * setting.slots
    while True:
        slots = rng.permutation(setting.slots)[: rng.integers(1, setting.slots + 1)].tolist()
        candidates = yield slots, [prefixes[slot] for slot in slots]
        assert candidates is not None
        for slot, candidate in zip(slots, candidates, strict=True):
            action = rng.choice(["accept", "reject", "fallback", "swap"], p=[0.4, 0.3, 0.15, 0.15])
            kept = {"accept": candidate, "fallback": earlier[slot]}.get(action)
            earlier[slot] = candidate if action == "reject" and not setting.gentle else None
            if kept is not None:
                prefixes[slot] = np.concatenate([prefixes[slot], kept])
            is_over = len(prefixes[slot]) + SEGMENT_TOKENS > MAX_LEN or END in prefixes[slot]
            if is_over or (action == "swap" and not setting.gentle):
                prefixes[slot], earlier[slot] = prompt(), None


def policy_difference(engine: PolicyEngine, plain: Plain, setting: Setting, num_rounds: int, seed: int = 3) -> float:
    """The largest difference of a decode step's logits from the plain forward's."""
    recorder, walk, worst = StepRecorder(engine), random_walk(setting, seed), 0.0
    candidates: list[TokenArray] | None = None
    for attempt in range(num_rounds):
        slots, prefixes = walk.send(candidates)
        recorder.seen.clear()
        limits = [min(SEGMENT_TOKENS, 1 + (attempt + slot) % 7) for slot in slots]
        drawn = engine.propose(cohort_of(slots, prefixes, limits, attempt))
        candidates = [tokens[:length] for tokens, length in zip(drawn.tokens_RT, drawn.lengths_R, strict=True)]
        for slot, prefix, candidate in zip(slots, prefixes, candidates, strict=True):
            expected_TV = plain(np.concatenate([prefix, candidate[:-1]]), len(candidate))
            for step, expected_V in enumerate(expected_TV):
                worst = _worst(worst, recorder.seen[slot, len(prefix) + step - 1], expected_V)
    return worst


def reward_difference(engine: RewardEngine, plain: Plain, setting: Setting, num_rounds: int, seed: int = 4) -> float:
    """The largest difference of a reward from the plain forward's."""
    rng, walk, worst = np.random.default_rng(seed), random_walk(setting, seed), 0.0
    candidates: list[TokenArray] | None = None
    for _ in range(num_rounds):
        slots, prefixes = walk.send(candidates)
        candidates = [_words(rng, int(rng.integers(1, SEGMENT_TOKENS + 1))) for _ in slots]
        wholes = [np.concatenate(both) for both in zip(prefixes, candidates, strict=True)]
        rewards_R, _ = engine.score(np.array(slots, np.int32), wholes)
        for reward, whole in zip(rewards_R, wholes, strict=True):
            worst = _worst(worst, torch.tensor(reward), plain(whole, 1).flatten()[0])
    return worst


class StepRecorder:
    """Keeps the logits of every decode step by slot and position, whichever decoder runs it."""

    def __init__(self, engine: PolicyEngine) -> None:
        self.slots = engine.slots
        self.seen: dict[tuple[int, int], torch.Tensor] = {}
        for name in ("next_logits", "next_logits_static"):
            setattr(self.slots, name, self._recorded(getattr(self.slots, name)))

    def _recorded(self, next_logits: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def recording(rows: Any, starts_W: Any, *rest: Any) -> torch.Tensor:
            starts = starts_W.tolist()
            logits_WV = next_logits(rows, starts_W, *rest)
            slots = self.slots.cache.slot_of_row[rows].tolist()
            for i in reversed(range(len(slots))):  # where a filler repeats a row, the row's own comes first and stays
                self.seen[slots[i], starts[i]] = logits_WV[i].clone()
            return logits_WV

        return recording


def cohort_of(slots: list[int], prefixes: list[TokenArray], limits: list[int], attempt: int) -> ProposeCohort:
    """A cohort at temperature 1."""
    ones_R = np.ones(len(slots), dtype=np.float32)
    return ProposeCohort(
        slots_R=np.array(slots, dtype=np.int32),
        prefix_tokens=np.concatenate(prefixes).astype(np.int32),
        prefix_lengths_R=np.array([len(prefix) for prefix in prefixes], dtype=np.int32),
        num_tokens_R=np.array(limits, dtype=np.int32),
        row_keys_R=np.array(slots, dtype=np.int64) * 7919 + 1,
        draw_keys_R3=np.array([(0, len(prefix), attempt) for prefix in prefixes], dtype=np.int64),
        temperature_R=ones_R,
        top_p_R=ones_R,
        top_k_R=np.zeros(len(slots), dtype=np.int32),
    )


def plain_of(model: PreTrainedModel, by_length: bool = False) -> Plain:
    """The plain forward without any cache.

    Args:
        by_length: what follows a prefix is asked of the prefix alone, since what comes after would change it.
    """

    def last_logits(tokens: TokenArray) -> torch.Tensor:
        return model(input_ids=torch.from_numpy(tokens.astype(np.int64))[None], use_cache=False).logits[0]

    @torch.inference_mode()
    def plain(tokens: TokenArray, count: int) -> torch.Tensor:
        if not by_length:
            return last_logits(tokens)[-count:]
        return torch.cat([last_logits(tokens[: len(tokens) - i])[-1:] for i in reversed(range(count))])

    return plain


def _words(rng: np.random.Generator, count: int) -> TokenArray:
    return rng.integers(FIRST_WORD, VOCABULARY, size=count).astype(np.int32)


def _worst(worst: float, found: torch.Tensor, expected: torch.Tensor) -> float:
    difference = float((found - expected).abs().max())
    return worst if difference <= worst else difference  # NaN is worse than anything
