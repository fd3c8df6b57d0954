"""From a config section to a loaded engine: the one place that knows how models come from disk or the Hub."""

from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from actors.engines.backends import Role
from actors.engines.packed_linear import pack_linears
from actors.engines.plain_check import REMEDY
from actors.engines.policy_engine import PolicyEngine
from actors.engines.reward_engine import Body, RewardEngine
from actors.engines.slot_model import SlotModel
from actors.engines.whole_model import WholeModel
from actors.rewards.labels import label_weights
from pipeline.config.decoding import EngineConfig
from pipeline.config.model import ModelConfig
from pipeline.config.model_rewards import ClassifierReward, RewardModel
from pipeline.errors import ConfigError

MAX_NAMED = 3  # weights that a refusal names


def load_policy(config: ModelConfig, engine: EngineConfig) -> PolicyEngine:
    """Load a causal language model; raises ConfigError when it names no end token or lacks weights."""
    model = packed(load_model("policy", AutoModelForCausalLM, config))
    end_token_ids = model.generation_config.eos_token_id if model.generation_config else None
    if end_token_ids is None:
        end_token_ids = model.config.get_text_config().eos_token_id
    if end_token_ids is None:
        raise ConfigError(f"policy.model {config.model!r} names no end token (eos_token_id)")
    return PolicyEngine(model, engine, tuple(end_token_ids) if isinstance(end_token_ids, list) else (end_token_ids,))


def load_reward(config: ClassifierReward, engine: EngineConfig) -> RewardEngine:
    """Load a sequence classifier.

    Raises:
        ConfigError: it lacks weights, or has no `score` head, as transformers' decoders of this class have, or no such
            label.
    """
    model = packed(load_model("reward", AutoModelForSequenceClassification, config, **load_options(config)))
    if not hasattr(model, "score"):
        raise ConfigError(
            f"reward.model {config.model!r}: {type(model).__name__} has no `score` head; an encoder is "
            "reward.kind: encoder, a head of another name reward.kind: custom_head"
        )
    weights = label_weights(config.model, config, model.config)
    return RewardEngine(make_body(model, config, engine), model.score, weights)


def lacks_weights(role: Role, name: str, absent: list[str]) -> str:
    """Why a checkpoint without some weights is refused."""
    shown = ", ".join(absent[:MAX_NAMED]) + (f" and {len(absent) - MAX_NAMED} more" if len(absent) > MAX_NAMED else "")
    needed = {"policy": "a causal language model", "reward": "a sequence classifier trained with its head"}[role]
    return f"{role}.model {name!r} lacks weights that would be random: {shown}; it must be {needed}, saved whole"


def load_model(role: Role, auto_class: Any, config: ModelConfig, **options: Any) -> PreTrainedModel:
    """A model on its device; `options` go to `from_pretrained`. Raises ConfigError when it lacks
    weights."""
    torch.set_num_threads(config.num_threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    whole = {"revision": config.revision, "output_loading_info": True, "ignore_mismatched_sizes": True}
    model, report = auto_class.from_pretrained(config.model, dtype=getattr(torch, config.dtype), **whole, **options)
    _check_report(role, config.model, model, report)
    return model.to(device).requires_grad_(False).eval()


def packed(model: PreTrainedModel) -> PreTrainedModel:
    """The model, its layers laid out for its device."""
    pack_linears(model)
    if model.device.type == "cpu":
        _leave_file(model)
    return model


def load_options(config: RewardModel) -> dict[str, Any]:
    """What a reward's section says of loading."""
    attention = {} if config.attn_implementation is None else {"attn_implementation": config.attn_implementation}
    return {"trust_remote_code": config.trust_remote_code, **attention, **config.model_kwargs}


def make_body(model: PreTrainedModel, config: RewardModel, engine: EngineConfig) -> Body:
    """The model over slots, or, with an attention of its own, as it is.

    Raises:
        ConfigError: it cannot be in slots.
    """
    if config.attn_implementation is not None:
        return WholeModel(model)
    if not type(model).__module__.startswith("transformers.") and not model._supports_attention_backend:
        raise ConfigError(f"{type(model).__name__} brings an attention of its own, which slots cannot hold; {REMEDY}")
    return SlotModel(model, engine)


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
