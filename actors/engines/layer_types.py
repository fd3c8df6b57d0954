"""Which layers can be rolled back by a segment: those that keep keys and values by position. Read off a config."""

from typing import Any

ROLLING_BACK = {"full_attention", "sliding_attention", "chunked_attention"}
RECURRENT_MODELS = {"falcon_mamba", "mamba", "mamba2", "recurrent_gemma", "rwkv", "xlstm", "zamba", "zamba2"}


def layer_refusal(config: Any) -> str | None:
    """Why a model of this config cannot be rolled back; None when its layers can be."""
    text = config.get_text_config(decoder=True)
    foreign = sorted(set(getattr(text, "layer_types", None) or []) - ROLLING_BACK)
    if text.model_type in RECURRENT_MODELS:
        foreign = ["recurrent state"]
    if not foreign:
        return None
    return f"{text.model_type} has layers ({', '.join(foreign)}) whose state cannot be rolled back by a segment"
