"""The sizes of a model, from its own config and without loading it."""

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from actors.engines.backends import Role
from actors.engines.model_classes import shape_only
from actors.engines.packed_linear import PACKED_DTYPES
from actors.rewards.interface import ModelNeeds
from actors.startup.memory import ModelMemory
from pipeline.config.model import ModelConfig


def model_memory(
    role: Role, config: ModelConfig, model_config: PreTrainedConfig, device: str, needs: ModelNeeds
) -> ModelMemory:
    """Read the sizes off a model that exists in shape only."""
    model = shape_only(needs.class_name, model_config, config)
    text = model_config.get_text_config()
    heads = text.num_attention_heads
    head_size = getattr(text, "head_dim", None) or text.hidden_size // heads
    return ModelMemory(
        role=role,
        device=device,
        weights_bytes=_weights_bytes(model, device),
        number_bytes=getattr(torch, config.dtype).itemsize,
        num_layers=text.num_hidden_layers,
        hidden_size=text.hidden_size,
        intermediate_size=getattr(text, "intermediate_size", None) or 4 * text.hidden_size,
        query_size=heads * head_size,
        key_size=(getattr(text, "num_key_value_heads", None) or heads) * head_size,
        vocabulary_size=text.vocab_size,
        keeps_slots=needs.keeps_slots,
    )


def _weights_bytes(model: PreTrainedModel, device: str) -> int:
    """Every parameter once; on a CPU a packed layer that shares its weight with an embedding has a copy of its own."""
    tensors = [*model.parameters(), *model.buffers()]
    num_bytes = sum(tensor.numel() * tensor.itemsize for tensor in tensors)
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    for module in model.modules():
        is_shared = type(module) is nn.Linear and id(module.weight) in embeddings
        if device == "cpu" and is_shared and module.weight.dtype in PACKED_DTYPES:
            num_bytes += module.weight.numel() * module.weight.itemsize
    return num_bytes
