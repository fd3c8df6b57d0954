"""From a config section to a loaded engine: the one place that knows how models come from disk or the Hub."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from actors.engines.backends import Role
from actors.engines.layer_types import layer_refusal
from actors.engines.packed_linear import pack_linears
from actors.engines.plain_check import REMEDY
from actors.engines.plain_forward import SHORTEST, PlainForward
from actors.engines.policy_engine import PolicyEngine
from actors.engines.reward_engine import Body, RewardEngine
from actors.engines.self_check import check_policy, check_reward
from actors.engines.slot_model import SlotModel
from actors.engines.whole_model import WholeModel
from actors.rewards.labels import label_weights
from pipeline.config.decoding import EngineConfig
from pipeline.config.model import ModelConfig
from pipeline.config.model_rewards import ClassifierReward, RewardModel
from pipeline.errors import ConfigError

MAX_NAMED = 3  # weights that a refusal names


def load_policy(config: ModelConfig, engine: EngineConfig) -> PolicyEngine:
    """Load a causal language model; raises ConfigError when it cannot be a policy."""
    model = load_model("policy", AutoModelForCausalLM, config)
    with naming("policy", config.model):
        return ready_policy(model, engine, end_token_ids(model))


def load_reward(config: ClassifierReward, engine: EngineConfig) -> RewardEngine:
    """Load a sequence classifier.

    Raises:
        ConfigError: it lacks weights, or has no `score` head, as transformers' decoders of this class have, or no such
            label, or cannot be run in slots.
    """
    model = load_model("reward", AutoModelForSequenceClassification, config, **load_options(config))
    weights = label_weights(config.model, config, model.config)
    with naming("reward", config.model):
        check_score_head(model)
        if config.attn_implementation is not None:
            return RewardEngine(make_body(packed(model), config, engine), model.score, weights)
        return ready_reward(model, engine, weights)


def ready_policy(
    model: PreTrainedModel, engine: EngineConfig, end_tokens: tuple[int, ...], shapes_of: str | None = None
) -> PolicyEngine:
    """The engine of a loaded model, packed and checked; see `PolicyEngine`.

    Raises:
        ConfigError: it cannot be run in slots.
    """
    plain = _plain_forward(model, engine)
    policy = PolicyEngine(packed(model), engine, end_tokens, shapes_of)
    if plain is not None:
        check_policy(policy, plain)
    return policy


def ready_reward(
    model: PreTrainedModel, engine: EngineConfig, weights: Sequence[tuple[int, float]] = ((0, 1.0),)
) -> RewardEngine:
    """The engine of a loaded classifier with a `score` head, packed and checked; see `RewardEngine`.

    Raises:
        ConfigError: it cannot be run in slots.
    """
    plain = _plain_forward(model, engine)
    slots = _in_slots(packed(model), engine)
    reward = RewardEngine(slots, model.score, weights)
    if plain is not None:
        check_reward(reward, slots, plain)
    return reward


def end_token_ids(model: PreTrainedModel) -> tuple[int, ...]:
    """Tokens that end a response; raises ConfigError when there is none."""
    found = model.generation_config.eos_token_id if model.generation_config else None
    if found is None:
        found = model.config.get_text_config(decoder=True).eos_token_id
    if found is None:
        raise ConfigError("it names no end token (eos_token_id)")
    return tuple(found) if isinstance(found, list) else (found,)


def lacks_weights(role: Role, absent: list[str]) -> str:
    """Why a checkpoint without some weights is refused."""
    shown = ", ".join(absent[:MAX_NAMED]) + (f" and {len(absent) - MAX_NAMED} more" if len(absent) > MAX_NAMED else "")
    needed = {"policy": "a causal language model", "reward": "a sequence classifier trained with its head"}[role]
    return f"it lacks weights that would be random: {shown}; it must be {needed}, saved whole"


@contextmanager
def naming(role: Role, name: str) -> Iterator[None]:
    """Say in a refusal which model it is about."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{role}.model {name!r}: {error}") from error


def load_model(role: Role, auto_class: Any, config: ModelConfig, **options: Any) -> PreTrainedModel:
    """A model on its device; `options` go to `from_pretrained`. Raises ConfigError when it lacks
    weights."""
    torch.set_num_threads(config.num_threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    whole = {"revision": config.revision, "output_loading_info": True, "ignore_mismatched_sizes": True}
    model, report = auto_class.from_pretrained(config.model, dtype=getattr(torch, config.dtype), **whole, **options)
    with naming(role, config.model):
        _check_report(role, model, report)
    return model.to(device).requires_grad_(False).eval()


def _plain_forward(model: PreTrainedModel, engine: EngineConfig) -> PlainForward | None:
    """None where there is no room for the check's sequences, nor for a response to speak of."""
    assert engine.max_model_len is not None
    if refusal := layer_refusal(model.config):
        raise ConfigError(refusal)
    return PlainForward.of(model.eval(), engine.max_model_len) if engine.max_model_len > SHORTEST else None


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
    return _in_slots(model, engine) if config.attn_implementation is None else WholeModel(model)


def _in_slots(model: PreTrainedModel, engine: EngineConfig) -> SlotModel:
    if not type(model).__module__.startswith("transformers.") and not model._supports_attention_backend:
        raise ConfigError(f"{type(model).__name__} brings an attention of its own, which slots cannot hold; {REMEDY}")
    return SlotModel(model, engine)


def check_score_head(model: PreTrainedModel) -> None:
    """Raises ConfigError where a classifier's head is not `score`, as that of a decoder is."""
    if not hasattr(model, "score"):
        raise ConfigError(
            f"{type(model).__name__} has no `score` head; an encoder is reward.kind: encoder, "
            "a head of another name reward.kind: custom_head"
        )


def _check_report(role: Role, model: PreTrainedModel, report: dict[str, Any]) -> None:
    """Refuse a checkpoint that lacks weights or has them in other shapes: transformers fills both with random numbers
    and only warns."""
    absent = report["missing_keys"] | {key for key, *_ in report["mismatched_keys"]}
    harmless = {key for key, buffer in model.named_buffers() if not buffer.is_floating_point()}  # positions and masks
    if absent - harmless:
        raise ConfigError(lacks_weights(role, sorted(absent - harmless)))


def _leave_file(model: PreTrainedModel) -> None:
    """Copy what is still a view of the mapped weights file, so that the whole of it is let go."""
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
