"""Training of the embedded policy: next-token loss on sampled responses, one epoch, prompts unscored."""

import random
import time
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from jobs.train_embedded.optimiser import MuonWithAdamW
from jobs.train_embedded.tokenizer import MAX_POSITIONS, padded, prompt_tokens, response_tokens
from pipeline.embedded.prompts import sample_conversation
from pipeline.embedded.responses import sample_response

NUM_RESPONSES = 20_480
ROWS_PER_BATCH = 16
BATCHES_PER_POOL = 16
IGNORED = -100

Example = tuple[list[int], list[int]]


def model_config(tokenizer: PreTrainedTokenizerFast, **extra: object) -> LlamaConfig:
    """The shape both embedded models share: 0.76 M parameters."""
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=320,
        max_position_embeddings=MAX_POSITIONS,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **extra,
    )


def train_policy(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """Train the policy on NUM_RESPONSES sampled responses; the seed fixes data, order and initial weights."""
    torch.manual_seed(seed)
    policy = LlamaForCausalLM(model_config(tokenizer, tie_word_embeddings=True)).train()
    optimiser = MuonWithAdamW(policy, num_steps=NUM_RESPONSES // ROWS_PER_BATCH)
    started = time.monotonic()
    for step, examples in enumerate(_batches(tokenizer, random.Random(f"policy {seed}"))):
        loss = _loss(policy, examples, tokenizer.pad_token_id)
        optimiser.step(loss)
        if step % 100 == 0:
            print(f"policy: step {step}, loss {loss.item():.3f}, {time.monotonic() - started:.0f} s", flush=True)
    policy.generation_config.eos_token_id = tokenizer.eos_token_id
    policy.generation_config.pad_token_id = tokenizer.pad_token_id
    return policy.eval()


def _loss(policy: LlamaForCausalLM, examples: list[Example], pad: int) -> torch.Tensor:
    """Mean next-token loss over response tokens; rows are padded on the right, so causal attention needs no mask."""
    tokens_RT = padded([prompt + response for prompt, response in examples], pad)
    labels_RT = padded([[IGNORED] * len(prompt) + response for prompt, response in examples], IGNORED)
    scored_RT = labels_RT[:, 1:] != IGNORED
    hidden_RTH = policy.model(tokens_RT[:, :-1], use_cache=False).last_hidden_state
    return functional.cross_entropy(policy.lm_head(hidden_RTH[scored_RT]), labels_RT[:, 1:][scored_RT])


def _batches(tokenizer: PreTrainedTokenizerFast, rng: random.Random) -> Iterator[list[Example]]:
    """Batches of rows of like length, cut from a sorted pool and shuffled, so that little is padding."""
    for _ in range(NUM_RESPONSES // (ROWS_PER_BATCH * BATCHES_PER_POOL)):
        pool = sorted((_example(tokenizer, rng) for _ in range(ROWS_PER_BATCH * BATCHES_PER_POOL)), key=_num_tokens)
        cuts = range(0, len(pool) + 1, ROWS_PER_BATCH)
        batches = [pool[start:stop] for start, stop in pairwise(cuts)]
        rng.shuffle(batches)
        yield from batches


def _example(tokenizer: PreTrainedTokenizerFast, rng: random.Random) -> Example:
    conversation = sample_conversation(rng, "train")
    response = sample_response(conversation.scenario, rng)
    return prompt_tokens(tokenizer, conversation), response_tokens(tokenizer, response)


def _num_tokens(example: Example) -> int:
    return len(example[0]) + len(example[1])
