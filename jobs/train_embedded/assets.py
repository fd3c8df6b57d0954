"""The embedded assets in the order of their making: prompts, tokenizer, the policy, the reward model on its answers.

Invariants: every piece has its own seed; a model folder is an ordinary `save_pretrained` folder, and both hold the
same tokenizer.
"""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from jobs.train_embedded.policy import train_policy
from jobs.train_embedded.reward import train_reward
from jobs.train_embedded.tokenizer import train_tokenizer
from pipeline.embedded.prompts import sample_conversation, write_prompts
from pipeline.embedded.responses import sample_response

NUM_TOKENIZER_TEXTS = 4000
NUM_THREADS = 2


def train_embedded(output: Path, seed: int) -> None:
    """Write `output`/policy, `output`/reward and `output`/prompts; a few minutes on two CPU cores."""
    started = time.monotonic()
    torch.set_num_threads(NUM_THREADS)
    write_prompts(output / "prompts", seed)
    tokenizer = train_tokenizer(_texts(seed))
    policy = train_policy(tokenizer, seed)
    policy.save_pretrained(output / "policy")
    tokenizer.save_pretrained(output / "policy")
    reward = train_reward(policy, tokenizer, seed)
    reward.save_pretrained(output / "reward")
    tokenizer.save_pretrained(output / "reward")
    print(f"trained in {time.monotonic() - started:.0f} s, written to {output}", flush=True)


def _texts(seed: int) -> Iterator[str]:
    """Prompts and responses of the training split, for the tokenizer."""
    rng = random.Random(f"tokenizer {seed}")
    for _ in range(NUM_TOKENIZER_TEXTS):
        conversation = sample_conversation(rng, "train")
        yield from (message["content"] for message in conversation.messages)
        yield sample_response(conversation.scenario, rng)
