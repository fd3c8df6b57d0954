"""From a config section to a loaded engine: the one place that knows how models come from disk or the Hub."""

from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from actors.engines.packed_linear import pack_linears
from actors.engines.policy_engine import PolicyEngine
from actors.engines.reward_engine import RewardEngine
from pipeline.config.decoding import EngineConfig
from pipeline.config.model import ModelConfig
from pipeline.errors import ConfigError


def load_policy(config: ModelConfig, engine: EngineConfig) -> PolicyEngine:
    """Load a causal language model; raises ConfigError when it names no end token."""
    model = _load(AutoModelForCausalLM, config)
    end_token_ids = model.generation_config.eos_token_id if model.generation_config else None
    if end_token_ids is None:
        end_token_ids = model.config.get_text_config().eos_token_id
    if end_token_ids is None:
        raise ConfigError(f"policy.model {config.model!r} names no end token (eos_token_id)")
    return PolicyEngine(model, engine, tuple(end_token_ids) if isinstance(end_token_ids, list) else (end_token_ids,))


def load_reward(config: ModelConfig, engine: EngineConfig) -> RewardEngine:
    """Load a sequence classifier with one label."""
    return RewardEngine(_load(AutoModelForSequenceClassification, config), engine)


def _load(auto_class: Any, config: ModelConfig) -> PreTrainedModel:
    torch.set_num_threads(config.num_threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = auto_class.from_pretrained(config.model, revision=config.revision, dtype=getattr(torch, config.dtype))
    model = model.to(device).requires_grad_(False)
    pack_linears(model)
    if device == "cpu":
        _leave_file(model)
    return model


def _leave_file(model: PreTrainedModel) -> None:
    """Copy what is still a view of the mapped weights file, so that the whole of it is let go."""
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
