"""Attention over slots: rows at different positions in one batch, through transformers' ordinary interface.

`SLOT_ATTENTION` is registered once for attention and once for masks. The model keeps building its own causal,
sliding or chunked masks; the only difference is that the query offset is one number per row.

Axes: R rows, T new tokens, L cached columns read, H query heads, K key/value heads, G = H / K, D head size.
"""

from collections.abc import Callable
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, causal_mask_function

from pipeline.errors import ModelError

SLOT_ATTENTION = "stars_slots"


def slot_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: torch.Tensor,
    kv_offset: int = 0,
    mask_function: Callable[..., torch.Tensor] = causal_mask_function,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    **_: Any,
) -> torch.Tensor:
    """Additive mask [R, 1, T, L]: 0 where visible, -inf elsewhere.

    Args:
        q_offset: int64 [R], the position of each row's first new token.
        mask_function: the architecture's rule over (row, head, query position, key position).
    """
    rows = torch.arange(batch_size, device=device)[:, None, None, None]
    queries = q_offset[:, None, None, None] + torch.arange(q_length, device=device)[None, None, :, None]
    keys = torch.arange(kv_offset, kv_offset + kv_length, device=device)[None, None, None, :]
    visible = mask_function(rows, rows.new_zeros(()), queries, keys)
    mask = torch.zeros(visible.shape, dtype=dtype, device=device)
    return mask.masked_fill_(~visible, float("-inf"))


def slot_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Scaled dot-product attention; grouped query heads are folded into the query axis, so no key is repeated.

    Shapes: query [R, H, T, D], key and value [R, K, L, D], mask [R, 1, T, L]; returns [R, T, H, D].
    """
    if kwargs.get("softcap") is not None or kwargs.get("s_aux") is not None:
        raise ModelError("attention with a logit softcap or sinks is not supported by the slot engine")
    R, H, T, D = query.shape
    K = key.shape[1]
    G = H // K
    if G > 1:
        query = query.reshape(R, K, G * T, D)
        if attention_mask is not None and T > 1:
            attention_mask = attention_mask.repeat(1, 1, G, 1)
    output = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=attention_mask, dropout_p=dropout, scale=scaling
    )
    return output.reshape(R, H, T, value.shape[-1]).transpose(1, 2).contiguous(), None


AttentionInterface.register(SLOT_ATTENTION, slot_attention)
AttentionMaskInterface.register(SLOT_ATTENTION, slot_mask)
