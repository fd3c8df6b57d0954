"""A reward's model checks itself at load: a few random tokens through its engine against its own plain forward."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from pipeline.errors import ConfigError, ModelError
from pipeline.records import TokenArray

# Of the largest number: rounding alone gives 1e-6 in float32, a hundredth and a tenth in the others.
TOLERANCE = {torch.float32: 0.001, torch.float16: 0.1, torch.bfloat16: 0.25}
PROBE_TOKENS = 12
REMEDY = "reward.attn_implementation: eager runs it as it is, and reads the whole conversation at every call"


def probe_tokens(model: PreTrainedModel) -> TokenArray:
    """The same for every model of one vocabulary."""
    size = model.get_input_embeddings().weight.shape[0]
    return np.random.default_rng(0).integers(size // 4, size, PROBE_TOKENS).astype(np.int32)


def plain_output(model: PreTrainedModel, tokens: TokenArray) -> Any:
    """What the model's own forward gives for one sequence; ask before slots and packing."""
    with torch.inference_mode():
        return model(input_ids=torch.from_numpy(tokens.astype(np.int64))[None].to(model.device), use_cache=False)


def check_against_plain(model: PreTrainedModel, found: Callable[[], list[float]], expected: list[float]) -> None:
    """Compare an engine's numbers with the plain ones.

    Raises:
        ConfigError: they are others.
    """
    scale = max(map(abs, expected)) or 1.0
    try:
        difference = float(np.abs(np.array(found()) - np.array(expected)).max())
    except ModelError as error:
        raise ConfigError(f"{type(model).__name__}: {error}; {REMEDY}") from error
    allowed = TOLERANCE.get(model.dtype, 0.25)
    if not difference <= allowed * scale:
        raise ConfigError(
            f"{type(model).__name__} gives other numbers here than by itself, off by {difference / scale:.2g} of the "
            f"largest ({allowed:g} allowed in {model.dtype}); {REMEDY}"
        )
