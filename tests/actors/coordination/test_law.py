"""The law of one block (algorithm.md section 1), by enumeration, through the real engines and the real coordinator.

A tiny policy and a tiny reward model over six tokens give 31 possible segments of at most two tokens. For each of
them pi(c) and R(c) come from plain forward passes; the law of the kept segment follows in closed form:
by rule pi(c) a(c) / A with probability 1 - (1 - A)^M, else the best of M rejected draws.
"""

import asyncio
import itertools

import numpy as np
import pytest
import scipy.stats
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, LlamaConfig

from actors.coordination.coordinator import SegmentCoordinator
from actors.engines.policy_engine import PolicyEngine
from actors.engines.reward_engine import RewardEngine
from pipeline.config.align import AlignConfig
from pipeline.records import PromptRow
from pipeline.strategies.acceptance import acceptance_probability
from tests.handles import LocalHandle, prefix_reward

VOCABULARY, END, NUM_DRAWS = 6, 1, 20_000
PROMPT = np.array([2, 3, 4], dtype=np.int32)
SEGMENTS = [(END,)] + [(a, b) for a, b in itertools.product(range(VOCABULARY), repeat=2) if a != END]


class OnePrompt:
    closing_tokens = np.array([END], dtype=np.int32)

    def prompt_tokens(self, row):
        return PROMPT

    def text(self, response_tokens):
        return " ".join(map(str, response_tokens.tolist()))


def tiny(auto_class, seed, head_scale):
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
    return model


@torch.inference_mode()
def enumerate_block(policy, reward):
    """pi(c) and R(c) of every segment, from plain forward passes."""
    pi, rewards = [], []
    for segment in SEGMENTS:
        tokens = torch.tensor([[*PROMPT.tolist(), *segment]])
        log_p = policy(tokens).logits[0].double().log_softmax(-1)
        pi.append(sum(log_p[len(PROMPT) - 1 + i, t] for i, t in enumerate(segment)).exp().item())
        rewards.append(reward.score(reward.model(tokens).last_hidden_state[0, -1]).item())
    assert abs(sum(pi) - 1) < 1e-6
    return np.array(pi), np.array(rewards)


def law(pi, rewards, threshold, beta, attempts, fallback="best"):
    """P(kept segment), and the acceptance A of one draw."""
    accept = np.array([acceptance_probability(r, threshold, beta) for r in rewards])
    A = float((pi * accept).sum())
    by_rule = pi * accept / A * (1 - (1 - A) ** attempts)
    rejected = pi * (1 - accept)
    below = np.array([rejected[rewards < r].sum() for r in rewards])
    best = (below + rejected) ** attempts - below**attempts
    last = rejected * (1 - A) ** (attempts - 1)
    return by_rule + (best if fallback == "best" else last), A


def p_value(counts, probabilities):
    """Chi-square of observed counts, with rare cells (expected below 8) merged into one."""
    expected = probabilities * counts.sum()
    rare = expected < 8
    observed, wanted = list(counts[~rare]), list(expected[~rare])
    if expected[rare].sum() > 0:
        observed.append(counts[rare].sum())
        wanted.append(expected[rare].sum())
    wanted = np.array(wanted) * (sum(observed) / sum(wanted))
    return scipy.stats.chisquare(observed, wanted).pvalue


def draw_blocks(policy, reward, threshold, beta, attempts, proposals):
    """NUM_DRAWS kept segments, counted, with the number that the fallback chose.

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
                "max_attempts": attempts,
                "alpha": 1.0,
                "beta": beta,
                "reward_threshold": threshold,
                "proposals_per_round": proposals,
            },
        }
    )
    handles = [
        LocalHandle(PolicyEngine(policy, config.engine, (END,))),
        LocalHandle(prefix_reward(OnePrompt(), RewardEngine(reward, config.engine), config.engine.max_model_len)),
    ]

    async def run():
        coordinator = SegmentCoordinator(config, [handles[0]], [handles[1]], OnePrompt())
        room = asyncio.Semaphore(config.engine.slots // 4)

        async def align(i):
            async with room:
                return await coordinator.align(PromptRow(i, f"row {i}", prompt="-"))

        return await asyncio.gather(*(align(i) for i in range(NUM_DRAWS)))

    results = asyncio.run(run())
    for handle in handles:
        handle.close()
    places = {" ".join(map(str, segment)): i for i, segment in enumerate(SEGMENTS)}
    counts = np.bincount([places[r.response] for r in results], minlength=len(SEGMENTS))
    return counts, sum(r.segments[0].accepted_by == "fallback" for r in results)


@pytest.mark.parametrize(
    ("quantile", "beta", "attempts", "proposals", "refuted"),
    [
        (0.9, 0.3, 3, 1, {"fallback"}),
        (0.9, 0.3, 12, 4, {"threshold", "beta", "fallback"}),
        (0.6, 0.5, 2, 4, {"threshold", "fallback"}),
        (0.6, 0.5, 30, 1, {"threshold", "beta"}),
        (0.6, 0.5, 30, 4, {"threshold", "beta"}),
        (0.4, 0.5, 2, 1, {"threshold"}),
        (0.6, 0.0, 3, 1, {"threshold", "fallback"}),
    ],
    ids=["low-fallback", "low-4", "middle-fallback-4", "middle", "middle-4", "high", "hard-rule"],
)
def test_kept_segment_has_the_enumerated_law(quantile, beta, attempts, proposals, refuted):
    policy, reward = tiny(AutoModelForCausalLM, 0, 12), tiny(AutoModelForSequenceClassification, 1, 30)
    pi, rewards = enumerate_block(policy, reward)
    order = np.argsort(rewards)
    threshold = float(rewards[order][np.searchsorted(np.cumsum(pi[order]), quantile)]) + 0.01
    probabilities, A = law(pi, rewards, threshold, beta, attempts)
    assert abs(probabilities.sum() - 1) < 1e-6
    counts, num_fallback = draw_blocks(policy, reward, threshold, beta, attempts, proposals)
    assert p_value(counts, probabilities) > 1e-3
    expected_fallback = NUM_DRAWS * (1 - A) ** attempts
    assert abs(num_fallback - expected_fallback) < 5 * np.sqrt(expected_fallback + 1)
    # The same draws refute the laws of deliberately wrong samplers, so the assertions above could have failed.
    wrong = {
        "threshold": law(pi, rewards, threshold + 0.5 * rewards.std(), beta, attempts)[0],
        "beta": law(pi, rewards, threshold, 2 * beta, attempts)[0],
        "fallback": law(pi, rewards, threshold, beta, attempts, fallback="last")[0],
    }
    for fault in refuted:
        assert p_value(counts, wrong[fault]) < 1e-6, fault
