"""Rotary frequencies that depend on how long a sequence is, for rows of different lengths in one forward.

A `longrope` model has two sets: one up to its original length, one beyond. transformers chooses by the largest position
of a batch; here every row has the set of its own sequence, so that no row depends on another. A sequence that grows
beyond the original length is fed again from its start, as the plain forward of it would: the slots' table keeps the
two kinds apart by `marked` tokens, so that no prefix is shared between them.

A `dynamic` model has another set for every length beyond its own positions, and is held to these.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from transformers import PreTrainedModel

from pipeline.errors import ConfigError
from pipeline.records import TokenArray

LONG_MARK = 1 << 30


def switch_length(model: PreTrainedModel, max_model_len: int) -> int | None:
    """The most tokens that a sequence has at the first set of frequencies; None where no sequence gets beyond it.

    Raises:
        ConfigError: the frequencies change in a way that rows cannot follow.
    """
    originals = set()
    for module, kinds in _rotaries(model):
        if _is_dynamic(kinds) and max_model_len > module.original_max_seq_len:
            raise ConfigError(
                f"its dynamic rotary frequencies change with every token beyond {module.original_max_seq_len}; "
                f"engine.max_model_len = {module.original_max_seq_len} works"
            )
        originals |= {_original(module, layer_type) for layer_type, kind in kinds.items() if kind == "longrope"}
    originals = {original for original in originals if original < max_model_len}
    if len(originals) > 1:
        raise ConfigError(
            f"its rotary frequencies change at several lengths; engine.max_model_len = {min(originals)} works"
        )
    return originals.pop() if originals else None


def hold_frequencies(model: PreTrainedModel, switch: int | None, lengths_R: Callable[[], torch.Tensor]) -> None:
    """Make every rotary module of a model give each row its own frequencies.

    Args:
        switch: see `switch_length`.
        lengths_R: gives the tokens of each row's whole sequence, int64 [R], in the forward in progress.
    """
    for module, kinds in _rotaries(model):
        if _is_dynamic(kinds):
            module.forward = inspect.unwrap(type(module).forward).__get__(module)  # as at its own positions, always
        elif switch is not None and "longrope" in kinds.values():
            module.forward = _by_row(module.forward, switch, lengths_R)


def _by_row(forward: Callable[..., Any], switch: int, lengths_R: Callable[[], torch.Tensor]) -> Callable[..., Any]:
    """The forward of a rotary module, which chooses by the largest position, asked once for each set."""

    def by_row(x: torch.Tensor, position_ids: torch.Tensor, *layer_type: Any) -> tuple[torch.Tensor, ...]:
        beyond = torch.full_like(position_ids[:, :1], switch)
        short = forward(x, position_ids.clamp(max=switch - 1), *layer_type)
        long = forward(x, torch.cat([position_ids, beyond], dim=1), *layer_type)
        is_long_R11 = (lengths_R() > switch)[:, None, None]
        return tuple(torch.where(is_long_R11, b[:, :-1], a) for a, b in zip(short, long, strict=True))

    return by_row


def marked(tokens: TokenArray, length: int, switch: int | None) -> TokenArray:
    """Tokens as the table of slots keeps them, of a sequence of `length` tokens when they were fed."""
    return tokens if switch is None or length <= switch else tokens + LONG_MARK


def _rotaries(model: PreTrainedModel) -> list[tuple[Any, dict[str | None, str]]]:
    """The rotary modules whose frequencies may change, and their kinds by layer type."""
    found = []
    for module in model.modules():
        kinds = getattr(module, "rope_type", None)
        kinds = kinds if isinstance(kinds, dict) else {None: kinds}
        if _is_dynamic(kinds) or "longrope" in kinds.values():
            found.append((module, kinds))
    return found


def _is_dynamic(kinds: dict[str | None, str]) -> bool:
    return any("dynamic" in (kind or "") for kind in kinds.values())


def _original(module: Any, layer_type: str | None) -> int:
    parameters = module.config.rope_parameters
    return int((parameters if layer_type is None else parameters[layer_type])["original_max_position_embeddings"])
