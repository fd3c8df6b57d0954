"""The preference pairs that the baselines learn from when no file is given.

Each pair is two answers of the policy itself to one prompt of the training split; which one is chosen is drawn as for
the reward model: i beats j with probability sigmoid(gold_i - gold_j). Only these labels leave this module, never gold
scores. Answers that did not end within the length are left out: TRL would teach the policy to end there.
"""

import random
from itertools import islice
from typing import Any

from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from jobs.train_embedded.reward import draw_labels
from jobs.train_embedded.rollouts import sample_rollouts
from pipeline.embedded.judge import gold_score

Pair = dict[str, Any]


def gold_pairs(policy: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, count: int, seed: int) -> list[Pair]:
    """`count` pairs in TRL's conversational format, one per prompt; the seed fixes prompts, answers and labels."""
    rng = random.Random(f"baseline labels {seed}")
    drawn = sample_rollouts(policy, tokenizer, 2, seed)
    ended = (r for r in drawn if all(tokens[-1] == tokenizer.eos_token_id for tokens in r.responses))
    pairs = []
    for rollout in islice(ended, count):
        texts = tokenizer.batch_decode(rollout.responses, skip_special_tokens=True)
        labels = draw_labels([gold_score(rollout.conversation.prompt, text) for text in texts], rng)
        chosen = 0 if labels[0, 1] else 1
        pairs.append(
            {
                "prompt": list(rollout.conversation.messages),
                "chosen": [{"role": "assistant", "content": texts[chosen]}],
                "rejected": [{"role": "assistant", "content": texts[1 - chosen]}],
            }
        )
    return pairs
