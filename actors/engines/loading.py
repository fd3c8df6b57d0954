"""From a config section to a loaded engine: the one place that knows how models come from disk or the Hub."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from actors.engines.policy_engine import PolicyEngine
from actors.engines.reward_engine import RewardEngine
from pipeline.config import AlignConfig, EngineConfig, ModelConfig
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


def with_max_model_len(config: AlignConfig) -> AlignConfig:
    """The config with `engine.max_model_len` filled in from the two models' own position limits.

    Raises:
        ConfigError: a model cannot hold the wanted length, or its config cannot be read.
    """
    if config.policy.backend == "fake":
        limits = {"fake models": 4096}
    else:
        limits = {role: _position_limit(role, getattr(config, role).model) for role in ("policy", "reward")}
    role, limit = min(limits.items(), key=lambda item: item[1])
    wanted = config.engine.max_model_len
    if wanted is not None and wanted > limit:
        raise ConfigError(f"engine.max_model_len = {wanted} is more than the {limit} positions of {role}")
    if config.generation.max_new_tokens >= (wanted or limit):
        raise ConfigError(
            f"generation.max_new_tokens = {config.generation.max_new_tokens} leaves no room for a prompt in the "
            f"{wanted or limit} tokens of engine.max_model_len"
        )
    return config.model_copy(update={"engine": config.engine.model_copy(update={"max_model_len": wanted or limit})})


def _position_limit(role: str, model: str) -> int:
    try:
        config = AutoConfig.from_pretrained(model).get_text_config()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{role}.model {model!r}: {str(error).splitlines()[0]}") from None
    limit = getattr(config, "max_position_embeddings", None)
    if limit is None:
        raise ConfigError(f"{role}.model {model!r} names no max_position_embeddings; set engine.max_model_len")
    return int(limit)


def _load(auto_class: Any, config: ModelConfig) -> PreTrainedModel:
    torch.set_num_threads(config.num_threads)
    device = "cuda" if torch.cuda.is_available() and config.num_gpus != 0 else "cpu"
    model = auto_class.from_pretrained(config.model, dtype=getattr(torch, config.dtype))
    return model.to(device).requires_grad_(False)
