"""Attention over slots: rows at different positions in one batch, through transformers' ordinary interface.

`SLOT_ATTENTION` is registered once for attention and once for masks. The model keeps building its own causal,
sliding or chunked masks; the only difference is that the query offset is one number per row.

Invariant, tested: in fp32 on a CPU with one thread a row's output has the same bits whatever rows stand beside it,
however many columns beyond its own are read, and however many tokens (from three query vectors per key head on) are
computed at once.

Axes: R rows, T new tokens, L cached columns read, H query heads, K key/value heads, G = H / K, D head size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface, causal_mask_function

from pipeline.errors import ConfigError, ModelError

SLOT_ATTENTION = "stars_slots"
GROUP_ROWS = 8  # neighbours that attention reads to the length of the longest of them


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Rows [first, last) of a forward, whose keys lie in neighbouring storage rows from `source` on.

    They attend to the first `length` columns only.
    """

    first: int
    last: int
    source: int
    length: int


def with_slot_attention(model: PreTrainedModel) -> PreTrainedModel:
    """The model, attending by slots; raises ConfigError when it attends in a way of its own."""
    model.set_attn_implementation(SLOT_ATTENTION)
    if model.config._attn_implementation != SLOT_ATTENTION:
        raise ConfigError(f"{model.config.model_type} attends in a way of its own, which slots cannot take part in")
    return model


def row_groups(rows_R: npt.NDArray[np.int64], lengths_R: list[int]) -> tuple[RowGroup, ...]:
    """Neighbouring storage rows, at most `GROUP_ROWS` of them, which read to the length of the longest."""
    if not lengths_R:
        return ()
    groups, first = [], 0
    for last in range(1, len(lengths_R) + 1):
        is_end = last == len(lengths_R) or last - first == GROUP_ROWS or rows_R[last] != rows_R[last - 1] + 1
        if is_end:
            groups.append(RowGroup(first, last, int(rows_R[first]), max(lengths_R[first:last])))
            first = last
    return tuple(groups)


def slot_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: torch.Tensor,
    kv_offset: int = 0,
    mask_function: Callable[..., torch.Tensor] = causal_mask_function,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    config: Any = None,
    **_: Any,
) -> torch.Tensor | None:
    """Additive mask [R, 1, G * T, L]: 0 where visible, -inf elsewhere. None stands for the plain causal mask of rows
    that all start at 0, which is when the new tokens are all there is to see (`kv_length` equals `q_length`).

    Args:
        q_offset: int64 [R], the position of each row's first new token.
        mask_function: the architecture's rule over (row, head, query position, key position).
        config: the model's; it tells G.
    """
    if q_length == kv_length and q_length > 1 and mask_function is causal_mask_function:
        return None
    rows = torch.arange(batch_size, device=device)[:, None, None, None]
    queries = q_offset[:, None, None, None] + torch.arange(q_length, device=device)[None, None, :, None]
    keys = torch.arange(kv_offset, kv_offset + kv_length, device=device)[None, None, None, :]
    visible = mask_function(rows, rows.new_zeros(()), queries, keys)
    mask = torch.zeros(visible.shape, dtype=dtype, device=device).masked_fill_(~visible, float("-inf"))
    num_heads = getattr(config, "num_attention_heads", 1)
    group = num_heads // (getattr(config, "num_key_value_heads", None) or num_heads)
    return mask.repeat(1, 1, group, 1) if group > 1 and q_length > 1 else mask


def slot_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    row_groups: Sequence[RowGroup] = (),
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Scaled dot-product attention; grouped query heads are folded into the query axis, so no key is repeated.

    Shapes: query [R, H, T, D], key and value [R, K, L, D], mask [R, 1, T or G * T, L]; returns [R, T, H, D].
    Models hand `row_groups` through from the call of the whole model; with them, key and value are the whole storage
    [S, K, L, D], of which nothing is copied.
    """
    if kwargs.get("softcap") is not None or kwargs.get("s_aux") is not None:
        raise ModelError("attention with a logit softcap or sinks is not supported by the slot engine")
    R, H, T, D = query.shape
    K = key.shape[1]
    G = H // K
    if attention_mask is None:
        output = query.new_empty(R, K, G, T, value.shape[-1])
        for g, heads in enumerate(query.view(R, K, G, T, D).unbind(2)):
            output[:, :, g] = scaled_dot_product_attention(heads, key, value, is_causal=True, scale=scaling)
        return output.reshape(R, H, T, -1).transpose(1, 2).contiguous(), None
    query = query.reshape(R, K, G * T, D)
    if attention_mask.shape[2] not in (1, G * T):
        attention_mask = attention_mask.repeat(1, 1, G, 1)
    if row_groups:
        output = query.new_empty(R, K, G * T, value.shape[-1])
        for group in row_groups:
            rows, columns = slice(group.first, group.last), slice(0, group.length)
            sources = slice(group.source, group.source + group.last - group.first)
            output[rows] = scaled_dot_product_attention(
                query[rows],
                key[sources, :, columns],
                value[sources, :, columns],
                attn_mask=attention_mask[rows, :, :, columns],
                scale=scaling,
            )
    else:
        output = scaled_dot_product_attention(query, key, value, attn_mask=attention_mask, scale=scaling)
    return output.reshape(R, H, T, -1).transpose(1, 2).contiguous(), None


AttentionInterface.register(SLOT_ATTENTION, slot_attention)
AttentionMaskInterface.register(SLOT_ATTENTION, slot_mask)
