"""From a config section to a loaded engine: the one place that knows how models come from disk or the Hub."""

from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from actors.engines.backends import Role
from actors.engines.packed_linear import pack_linears
from actors.engines.policy_engine import PolicyEngine
from actors.engines.reward_engine import RewardEngine
from pipeline.config.decoding import EngineConfig
from pipeline.config.model import ModelConfig
from pipeline.errors import ConfigError

MAX_NAMED = 3  # weights that a refusal names


def load_policy(config: ModelConfig, engine: EngineConfig) -> PolicyEngine:
    """Load a causal language model; raises ConfigError when it names no end token or lacks weights."""
    model = _load("policy", AutoModelForCausalLM, config)
    end_token_ids = model.generation_config.eos_token_id if model.generation_config else None
    if end_token_ids is None:
        end_token_ids = model.config.get_text_config().eos_token_id
    if end_token_ids is None:
        raise ConfigError(f"policy.model {config.model!r} names no end token (eos_token_id)")
    return PolicyEngine(model, engine, tuple(end_token_ids) if isinstance(end_token_ids, list) else (end_token_ids,))


def load_reward(config: ModelConfig, engine: EngineConfig) -> RewardEngine:
    """Load a sequence classifier with one label; raises ConfigError when it lacks weights."""
    return RewardEngine(_load("reward", AutoModelForSequenceClassification, config), engine)


def lacks_weights(role: Role, name: str, absent: list[str]) -> str:
    """Why a checkpoint without some weights is refused."""
    shown = ", ".join(absent[:MAX_NAMED]) + (f" and {len(absent) - MAX_NAMED} more" if len(absent) > MAX_NAMED else "")
    needed = {"policy": "a causal language model", "reward": "a sequence classifier trained with its head"}[role]
    return f"{role}.model {name!r} lacks weights that would be random: {shown}; it must be {needed}, saved whole"


def _load(role: Role, auto_class: Any, config: ModelConfig) -> PreTrainedModel:
    torch.set_num_threads(config.num_threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = getattr(torch, config.dtype)
    model, report = auto_class.from_pretrained(
        config.model, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True
    )
    _check_report(role, config.model, model, report)
    model = model.to(device).requires_grad_(False)
    pack_linears(model)
    if device == "cpu":
        _leave_file(model)
    return model


def _check_report(role: Role, name: str, model: PreTrainedModel, report: dict[str, Any]) -> None:
    """Refuse a checkpoint that lacks weights or has them in other shapes: transformers fills both with random numbers
    and only warns."""
    absent = report["missing_keys"] | {key for key, *_ in report["mismatched_keys"]}
    harmless = {key for key, buffer in model.named_buffers() if not buffer.is_floating_point()}  # positions and masks
    if absent - harmless:
        raise ConfigError(lacks_weights(role, name, sorted(absent - harmless)))


def _leave_file(model: PreTrainedModel) -> None:
    """Copy what is still a view of the mapped weights file, so that the whole of it is let go."""
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
