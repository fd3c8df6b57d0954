"""What a model gives by itself: its plain forward, without a cache, for the sequences of the check at load."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from actors.engines.plain_check import plain_output
from pipeline.errors import ConfigError
from pipeline.records import TokenArray

LONGEST, SHORTEST, NUM_STEPS = 24, 3, 2
PROMPTS = ("long", "shared", "short")  # the sequences that a policy draws more tokens for
WORKS = "it cannot be run; decoders like Llama, Qwen3, Mistral, Gemma 3 and GPT-2 can"
MAX_REASON_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class PlainForward:
    """What a model gives by itself for the sequences of the check: float32 [NUM_STEPS, V] at the last tokens of each,
    or the logits [L] of a classifier; and for prompts, [NUM_STEPS, V] along the tokens of highest logit after them."""

    sequences: dict[str, TokenArray]
    outputs: dict[str, torch.Tensor]
    greedy: dict[str, torch.Tensor]

    @classmethod
    @torch.inference_mode()
    def of(cls, model: PreTrainedModel, max_model_len: int) -> "PlainForward":
        """Ask a model whose attention is still its own.

        Raises:
            ConfigError: it cannot be asked, or gives numbers that are not finite.
        """
        sequences = _sequences(model, min(LONGEST, max_model_len - 1))
        with refusing(model, "by itself"):
            logits = {name: _logits(model, tokens) for name, tokens in sequences.items()}
            is_policy = logits["long"].dim() == 2
            greedy = {n: _greedy(model, sequences[n], logits[n]) for n in PROMPTS} if is_policy else {}
        outputs = {name: (found[-NUM_STEPS:] if is_policy else found).clone() for name, found in logits.items()}
        if not all(output.isfinite().all() for output in outputs.values()):
            raise ConfigError(f"its own forward gives numbers that are not finite in {model.dtype}")
        return cls(sequences, outputs, greedy)


def _sequences(model: PreTrainedModel, longest: int) -> dict[str, TokenArray]:
    """The same for every model of one vocabulary; without tokens that have a meaning of their own."""
    embedding = model.get_input_embeddings().weight
    size = min(model.config.get_text_config(decoder=True).vocab_size, len(embedding))
    words = np.setdiff1d(np.arange(size), sorted(_special_ids(model.config.to_dict())))
    rng = np.random.default_rng(0)
    long, half = rng.choice(words, longest), longest // 2

    def after(head: TokenArray, length: int) -> TokenArray:
        return np.concatenate([head, rng.choice(words, max(SHORTEST, length) - len(head))]).astype(np.int32)

    return {
        "long": long.astype(np.int32),
        "shared": after(long[:half], longest * 3 // 4),
        "short": after(long[:0], longest // 3),
        "forked": after(long[: half + 1], longest - 1),
        "rolled back": after(long[: longest * 2 // 3], longest),
    }


def _special_ids(config: dict[str, Any]) -> set[int]:
    """Every id that a config gives a meaning to."""
    found: set[int] = set()
    for name, value in config.items():
        if isinstance(value, dict):
            found |= _special_ids(value)
        elif "token" in str(name) and str(name).endswith(("_id", "_ids", "_index")):
            found |= {i for i in (value if isinstance(value, list) else [value]) if isinstance(i, int)}
    return found


def _logits(model: PreTrainedModel, tokens: TokenArray) -> torch.Tensor:
    """float32 [T, V], or [L] of a classifier."""
    return plain_output(model, tokens).logits[0].float()


def _greedy(model: PreTrainedModel, tokens: TokenArray, logits_TV: torch.Tensor) -> torch.Tensor:
    """Logits [NUM_STEPS, V] along the tokens of highest logit, from `NUM_STEPS` before the end on."""
    prompt, found = tokens[:-NUM_STEPS], [logits_TV[-NUM_STEPS - 1].clone()]
    while len(found) < NUM_STEPS:
        prompt = np.append(prompt, np.int32(found[-1].argmax().item()))
        found.append(_logits(model, prompt)[-1].clone())
    return torch.stack(found)


@contextmanager
def refusing(model: PreTrainedModel, where: str) -> Iterator[None]:
    """Whatever goes wrong in a forward means that the model cannot be run."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"{model.config.model_type} fails {where}: {type(error).__name__}: {reason}; {WORKS}"
        ) from error
