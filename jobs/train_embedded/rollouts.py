"""What the reward model is trained on: several responses of the policy itself to each of many training prompts.

A reward model that has only seen clean text does not recognise the policy's mistakes, and a search for high reward
finds them. The policy samples through the slot engine that serves it: the draws are keyed, its prompts are computed
once.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from actors.engines.policy_engine import PolicyEngine
from jobs.train_embedded.tokenizer import MAX_POSITIONS, prompt_tokens
from pipeline.config.decoding import EngineConfig
from pipeline.draws import row_key
from pipeline.embedded.prompts import Conversation, sample_conversation
from pipeline.protocol import ProposeCohort

PROMPTS_PER_CALL = 64
MAX_NEW_TOKENS = 128
TEMPERATURE = 0.9
TOP_K = 40


@dataclass(frozen=True, slots=True)
class Rollouts:
    """One prompt and the token ids of several responses to it; a finished one ends with the end token."""

    conversation: Conversation
    prompt: list[int]
    responses: list[list[int]]


def sample_rollouts(
    policy: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    responses_per_prompt: int,
    seed: int,
    temperature: float = TEMPERATURE,
) -> Iterator[Rollouts]:
    """Endless rollouts on prompts of the training split; the seed fixes prompts and draws."""
    num_slots = PROMPTS_PER_CALL * responses_per_prompt
    engine_config = EngineConfig(slots=num_slots, max_model_len=MAX_POSITIONS)
    engine = PolicyEngine(policy, engine_config, (tokenizer.eos_token_id,))
    rng, call = random.Random(f"rollouts {seed}"), 0
    while True:
        conversations = [sample_conversation(rng, "train") for _ in range(PROMPTS_PER_CALL)]
        prompts = [prompt_tokens(tokenizer, conversation) for conversation in conversations]
        proposals = engine.propose(
            _cohort(prompts, responses_per_prompt, row_key(seed, f"rollouts {call}"), temperature)
        )
        rows = [tokens[:n].tolist() for tokens, n in zip(proposals.tokens_RT, proposals.lengths_R, strict=True)]
        for i, (conversation, prompt) in enumerate(zip(conversations, prompts, strict=True)):
            yield Rollouts(conversation, prompt, rows[i * responses_per_prompt : (i + 1) * responses_per_prompt])
        call += 1


def _cohort(prompts: list[list[int]], responses_per_prompt: int, key: int, temperature: float) -> ProposeCohort:
    """Every prompt in `responses_per_prompt` slots, each slot a lane of draws of its own."""
    rows = [prompt for prompt in prompts for _ in range(responses_per_prompt)]
    slots_R = np.arange(len(rows), dtype=np.int32)
    return ProposeCohort(
        slots_R=slots_R,
        prefix_tokens=np.concatenate([np.array(row, dtype=np.int32) for row in rows]),
        prefix_lengths_R=np.array([len(row) for row in rows], dtype=np.int32),
        num_tokens_R=np.full(len(rows), MAX_NEW_TOKENS, dtype=np.int32),
        row_keys_R=np.full(len(rows), key, dtype=np.int64),
        draw_keys_R3=np.stack([slots_R, np.zeros_like(slots_R), np.zeros_like(slots_R)], axis=1).astype(np.int64),
        temperature_R=np.full(len(rows), temperature, dtype=np.float32),
        top_p_R=np.ones(len(rows), dtype=np.float32),
        top_k_R=np.full(len(rows), TOP_K, dtype=np.int32),
    )
