"""Training of the embedded reward model: Bradley-Terry on full responses and on their prefixes.

A reward model trained on finished answers alone is badly calibrated on fragments, and STARS scores fragments: hence the
prefix loss. The model sees the gold judge only through pair labels, each drawn from a sigmoid of a gold difference.
Legend: G prompts of a batch, K responses per prompt, P positions along a response, T tokens.
"""

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast

from jobs.train_embedded.optimiser import MuonWithAdamW
from jobs.train_embedded.policy import model_config
from jobs.train_embedded.rollouts import Rollouts, sample_rollouts
from jobs.train_embedded.tokenizer import padded
from pipeline.embedded.judge import gold_score

NUM_PROMPTS = 6_144
PROMPTS_PER_BATCH = 16
BATCHES_PER_POOL = 8
RESPONSES_PER_PROMPT = 4
PREFIX_STRIDE_TOKENS = 4
PREFIX_WEIGHT = 1.0
PROMPT_TIE_WEIGHT = 0.1
CENTER_WEIGHT = 0.01


@dataclass(frozen=True, slots=True)
class Group:
    """One prompt, K responses, and `preferred[i, j]`: 1 when the label says response i beats j, else 0."""

    prompt: list[int]
    responses: list[list[int]]
    preferred: np.ndarray

    @property
    def num_tokens(self) -> int:
        return len(self.prompt) + max(map(len, self.responses))


def train_reward(
    policy: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, seed: int
) -> LlamaForSequenceClassification:
    """Train on the policy's answers to NUM_PROMPTS prompts; the seed fixes data, labels, order and initial weights."""
    torch.manual_seed(seed + 1)
    reward = LlamaForSequenceClassification(model_config(tokenizer, num_labels=1)).train()
    optimiser = MuonWithAdamW(reward, num_steps=NUM_PROMPTS // PROMPTS_PER_BATCH)
    started = time.monotonic()
    for step, groups in enumerate(_batches(policy, tokenizer, seed)):
        loss, accuracy = _loss(reward, groups, tokenizer.pad_token_id)
        optimiser.step(loss)
        if step % 50 == 0:
            progress = f"step {step}, loss {loss.item():.3f}, pairs right {accuracy:.3f}"
            print(f"reward: {progress}, {time.monotonic() - started:.0f} s", flush=True)
    return reward.eval()


def _loss(reward: LlamaForSequenceClassification, groups: list[Group], pad: int) -> tuple[Tensor, float]:
    """The training loss of a batch, and the fraction of pair labels the full responses get right."""
    rows = [group.prompt + response for group in groups for response in group.responses]
    hidden_RTH = reward.model(padded(rows, pad), use_cache=False).last_hidden_state
    values_GKT = reward.score(hidden_RTH).squeeze(-1).unflatten(0, (len(groups), RESPONSES_PER_PROMPT))
    prompt_lengths_G = torch.tensor([len(group.prompt) for group in groups])
    lengths_GK = torch.tensor([[len(response) for response in group.responses] for group in groups])

    # Position 0 is the prompt alone; a response shorter than a position keeps its finished value.
    strides_P = torch.arange(0, int(lengths_GK.max()) + PREFIX_STRIDE_TOKENS, PREFIX_STRIDE_TOKENS)
    positions_GKP = torch.minimum(strides_P, lengths_GK[..., None]) + prompt_lengths_G[:, None, None] - 1
    values_GKP = values_GKT.gather(-1, positions_GKP)
    preferred_GKK = torch.from_numpy(np.stack([group.preferred for group in groups]))

    differences_GKKP = values_GKP[:, :, None] - values_GKP[:, None, :]
    pair_losses_GKKP = preferred_GKK[..., None] * functional.softplus(-differences_GKKP)
    running_GKKP = torch.maximum(lengths_GK[:, :, None], lengths_GK[:, None, :])[..., None] > strides_P
    running_GKKP = running_GKKP & (strides_P > 0)
    num_pairs = preferred_GKK.sum()
    full = pair_losses_GKKP[..., -1].sum() / num_pairs
    prefix = (pair_losses_GKKP * running_GKKP).sum() / (preferred_GKK[..., None] * running_GKKP).sum()

    final_GK, prompt_G = values_GKP[..., -1], values_GKP[:, 0, 0]
    tie = (prompt_G - final_GK.detach().mean(1)).square().mean()
    center = final_GK.mean().square()
    accuracy = (preferred_GKK * (differences_GKKP[..., -1] > 0)).sum() / num_pairs
    return full + PREFIX_WEIGHT * prefix + PROMPT_TIE_WEIGHT * tie + CENTER_WEIGHT * center, accuracy.item()


def _batches(policy: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, seed: int) -> Iterator[list[Group]]:
    """Batches of groups of like length, cut from a sorted pool and shuffled, so that little is padding."""
    rng, size = random.Random(f"reward {seed}"), PROMPTS_PER_BATCH
    rollouts = sample_rollouts(policy, tokenizer, RESPONSES_PER_PROMPT, seed)
    for _ in range(NUM_PROMPTS // (size * BATCHES_PER_POOL)):
        drawn = islice(rollouts, size * BATCHES_PER_POOL)
        pool = sorted((_group(tokenizer, rollout, rng) for rollout in drawn), key=lambda g: g.num_tokens)
        batches = [pool[start : start + size] for start in range(0, len(pool), size)]
        rng.shuffle(batches)
        yield from batches


def _group(tokenizer: PreTrainedTokenizerFast, rollouts: Rollouts, rng: random.Random) -> Group:
    texts = tokenizer.batch_decode(rollouts.responses, skip_special_tokens=True)
    gold = [gold_score(rollouts.conversation.prompt, text) for text in texts]
    return Group(rollouts.prompt, rollouts.responses, draw_labels(gold, rng))


def draw_labels(gold: list[float], rng: random.Random) -> np.ndarray:
    """Draw each pair's label once: i beats j with probability sigmoid(gold_i - gold_j)."""
    preferred = np.zeros((len(gold), len(gold)), dtype=np.float32)
    for i in range(len(gold)):
        for j in range(i):
            first_wins = rng.random() < 1 / (1 + np.exp(gold[j] - gold[i]))
            preferred[(i, j) if first_wins else (j, i)] = 1.0
    return preferred
