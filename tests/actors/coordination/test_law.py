"""The law of one block through the real engines and the real coordinator; tests/pipeline/strategies/test_law.py holds
the strategy itself to it exactly.

A tiny policy and a tiny reward model over six tokens give 31 possible segments of at most two tokens. For each of
them π(c) and R(c) come from plain forward passes; the law of the kept segment follows in closed form (tests/law.py).
"""

import asyncio
import itertools

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, LlamaConfig

from actors.coordination.coordinator import SegmentCoordinator
from actors.engines.packed_linear import pack_linears
from actors.engines.policy_engine import PolicyEngine
from actors.engines.reward_engine import RewardEngine
from actors.engines.slot_model import SlotModel
from pipeline.config.align import AlignConfig
from pipeline.records import PromptRow
from tests.handles import LocalHandle, prefix_reward
from tests.law import fallback_chance, kept_law, p_value

VOCABULARY, END, NUM_DRAWS = 6, 1, 5_000
BETA, ATTEMPTS = 0.3, 12
PROMPT = np.array([2, 3, 4], dtype=np.int32)
SEGMENTS = [(END,)] + [(a, b) for a, b in itertools.product(range(VOCABULARY), repeat=2) if a != END]


class OnePrompt:
    closing_tokens = np.array([END], dtype=np.int32)

    def prompt_tokens(self, row):
        return PROMPT

    def text(self, response_tokens):
        return " ".join(map(str, response_tokens.tolist()))


def tiny(auto_class, seed, head_scale, dtype):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=32,
        num_labels=1,
        pad_token_id=0,
        eos_token_id=END,
        bos_token_id=None,
    )
    model = auto_class.from_config(config, dtype=torch.float32).eval()
    head = model.lm_head if hasattr(model, "lm_head") else model.score
    head.weight.data *= head_scale
    return model.to(dtype)


@torch.inference_mode()
def enumerate_block(policy, reward):
    """π(c) and R(c) of every segment, from plain forward passes."""
    pi, rewards = [], []
    for segment in SEGMENTS:
        tokens = torch.tensor([[*PROMPT.tolist(), *segment]])
        log_p = policy(tokens).logits[0].double().log_softmax(-1)
        pi.append(sum(log_p[len(PROMPT) - 1 + i, t] for i, t in enumerate(segment)).exp().item())
        rewards.append(reward.score(reward.model(tokens).last_hidden_state[0, -1]).item())
    assert abs(sum(pi) - 1) < 1e-6
    return np.array(pi), np.array(rewards)


def draw_blocks(policy, reward, threshold, proposals, num_draws):
    """Results of so many rows.

    A quarter of the slots is filled with rows, so that each row finds room for three more proposals.
    """
    config = AlignConfig.model_validate(
        {
            "input": "-",
            "output": "-",
            "seed": 11,
            "policy": {"backend": "fake"},
            "reward": {"backend": "fake"},
            "generation": {"max_new_tokens": 2},
            "engine": {"slots": 2048, "max_model_len": 16},
            "strategy": {
                "name": "stars",
                "segment_size": 2,
                "max_attempts": ATTEMPTS,
                "alpha": 1.0,
                "beta": BETA,
                "reward_threshold": threshold,
                "proposals_per_round": proposals,
            },
        }
    )
    handles = [
        LocalHandle(PolicyEngine(policy, config.engine, (END,))),
        LocalHandle(
            prefix_reward(
                OnePrompt(), RewardEngine(SlotModel(reward, config.engine), reward.score), config.engine.max_model_len
            )
        ),
    ]

    async def run():
        coordinator = SegmentCoordinator(config, [handles[0]], [handles[1]], OnePrompt())
        room = asyncio.Semaphore(config.engine.slots // 4)

        async def align(i):
            async with room:
                return await coordinator.align(PromptRow(i, f"row {i}", prompt="-"))

        return await asyncio.gather(*(align(i) for i in range(num_draws)))

    try:
        return asyncio.run(run())
    finally:
        for handle in handles:
            handle.close()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_kept_segment_has_the_enumerated_law(dtype):
    """The draws refute wrong samplers too: each with a chance of 0.999 and more by the chi-square's noncentrality."""
    policy, reward = tiny(AutoModelForCausalLM, 0, 12, dtype), tiny(AutoModelForSequenceClassification, 1, 30, dtype)
    pi, rewards = enumerate_block(policy, reward)
    order = np.argsort(rewards)
    threshold = float(rewards[order][np.searchsorted(np.cumsum(pi[order]), 0.9)]) + 0.01
    rule = threshold, BETA, ATTEMPTS
    pack_linears(policy)
    pack_linears(reward)
    results = draw_blocks(policy, reward, threshold, 4, NUM_DRAWS)
    index = {" ".join(map(str, segment)): i for i, segment in enumerate(SEGMENTS)}
    counts = np.bincount([index[r.response] for r in results], minlength=len(SEGMENTS))
    assert p_value(counts, kept_law(pi, rewards, *rule)) > 1e-3
    num_fallback = sum(r.segments[0].accepted_by == "fallback" for r in results)
    expected_fallback = NUM_DRAWS * fallback_chance(pi, rewards, *rule)
    assert abs(num_fallback - expected_fallback) < 5 * np.sqrt(expected_fallback)
    warmer = pi ** (1 / 1.15)
    wrong = {
        "threshold": kept_law(pi, rewards, threshold + 0.5 * rewards.std(), BETA, ATTEMPTS),
        "beta": kept_law(pi, rewards, threshold, 2 * BETA, ATTEMPTS),
        "fallback": kept_law(pi, rewards, *rule, fallback="last"),
        "temperature": kept_law(warmer / warmer.sum(), rewards, *rule),
        "every attempt draws the same": pi,
    }
    for fault, law in wrong.items():
        assert p_value(counts, law) < 1e-6, fault
    if dtype == torch.float32:  # whose packed layers give a row the same bits in any batch
        one_at_a_time = draw_blocks(policy, reward, threshold, 1, 300)
        assert [(r.response, r.segments) for r in one_at_a_time] == [(r.response, r.segments) for r in results[:300]]
