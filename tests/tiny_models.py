"""Tiny random-weight models of the architectures the slot engine promises, made in memory."""

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Qwen3Config,
)

from pipeline.config.decoding import EngineConfig

VOCABULARY = 61
MAX_LEN = 96

SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": MAX_LEN,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 1,
}
GEMMA_LAYERS = ["sliding_attention", "full_attention", "sliding_attention"]

CONFIGS = {
    "llama": lambda: LlamaConfig(**SHAPE),
    "qwen3": lambda: Qwen3Config(**SHAPE),
    "mistral": lambda: MistralConfig(**SHAPE, sliding_window=11),
    "gemma3": lambda: Gemma3TextConfig(**SHAPE, sliding_window=11, layer_types=GEMMA_LAYERS),
    "gpt2": lambda: GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=MAX_LEN,
        n_embd=32,
        n_layer=3,
        n_head=4,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    ),
}


def causal_model(name, seed=0, scale=4.0, dtype=torch.float32):
    """A causal model whose logits are far from uniform."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(CONFIGS[name](), dtype=torch.float32).eval()
    model.generation_config.eos_token_id = 1
    for parameter in model.get_output_embeddings().parameters():
        parameter.data *= scale
    return model.to(dtype)


def reward_model(name, seed=1, dtype=torch.float32):
    """A classifier with one label."""
    torch.manual_seed(seed)
    config = CONFIGS[name]()
    config.num_labels = 1
    model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32).eval()
    model.score.weight.data *= 20
    return model.to(dtype)


def engine_config(slots=6, max_model_len=MAX_LEN, prefill_chunk=512):
    return EngineConfig(slots=slots, max_model_len=max_model_len, prefill_chunk=prefill_chunk)
