"""Owns the order of embedded training: prompts and tokenizer first, then both models side by side, one thread each.

Invariants: every piece is seeded on its own, so running the models in parallel changes no number; a model folder is an
ordinary `save_pretrained` folder, and both hold the same tokenizer.
"""

import random
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from transformers import AutoTokenizer

from actors.embedded_training.policy import train_policy
from actors.embedded_training.reward import train_reward
from actors.embedded_training.tokenizer import train_tokenizer
from pipeline.embedded.prompts import sample_conversation, write_prompts
from pipeline.embedded.responses import sample_response

NUM_TOKENIZER_TEXTS = 4000
TRAINERS = {"policy": train_policy, "reward": train_reward}


def train_embedded(output: Path, seed: int) -> None:
    """Write `output`/policy, `output`/reward and `output`/prompts; a few minutes on two CPU cores."""
    started = time.monotonic()
    write_prompts(output / "prompts", seed)
    tokenizer = train_tokenizer(_texts(seed))
    for name in TRAINERS:
        tokenizer.save_pretrained(output / name)
    with ProcessPoolExecutor(len(TRAINERS), mp_context=get_context("spawn")) as pool:
        for finished in [pool.submit(_train_model, name, output / name, seed) for name in TRAINERS]:
            finished.result()
    print(f"trained in {time.monotonic() - started:.0f} s, written to {output}", flush=True)


def _train_model(name: str, folder: Path, seed: int) -> None:
    """Train one model in this process and write it beside its tokenizer."""
    torch.set_num_threads(1)
    model = TRAINERS[name](AutoTokenizer.from_pretrained(folder), seed)
    model.save_pretrained(folder)


def _texts(seed: int) -> Iterator[str]:
    """Prompts and responses of the training split, for the tokenizer."""
    rng = random.Random(f"tokenizer {seed}")
    for _ in range(NUM_TOKENIZER_TEXTS):
        conversation = sample_conversation(rng, "train")
        yield from (message["content"] for message in conversation.messages)
        yield sample_response(conversation.scenario, rng)
