"""From a config section to a loaded engine: the one place that knows how models come from disk or the Hub."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from actors.engines.backends import Role
from actors.engines.layer_types import layer_refusal
from actors.engines.packed_linear import pack_linears
from actors.engines.plain_forward import SHORTEST, PlainForward
from actors.engines.policy_engine import PolicyEngine
from actors.engines.reward_engine import RewardEngine
from actors.engines.self_check import check_policy, check_reward
from pipeline.config.decoding import EngineConfig
from pipeline.config.model import ModelConfig
from pipeline.errors import ConfigError

MAX_NAMED = 3  # weights that a refusal names


def load_policy(config: ModelConfig, engine: EngineConfig) -> PolicyEngine:
    """Load a causal language model; raises ConfigError when it cannot be a policy."""
    with _naming("policy", config.model):
        model = _load("policy", AutoModelForCausalLM, config)
        return ready_policy(model, engine, end_token_ids(model))


def load_reward(config: ModelConfig, engine: EngineConfig) -> RewardEngine:
    """Load a sequence classifier with one label; raises ConfigError when it cannot be a reward."""
    with _naming("reward", config.model):
        return ready_reward(_load("reward", AutoModelForSequenceClassification, config), engine)


def ready_policy(
    model: PreTrainedModel, engine: EngineConfig, end_tokens: tuple[int, ...], shapes_of: str | None = None
) -> PolicyEngine:
    """The engine of a loaded model, packed and checked; see `PolicyEngine`.

    Raises:
        ConfigError: it cannot be run in slots.
    """
    plain = _plain_forward(model, engine)
    policy = PolicyEngine(_packed(model), engine, end_tokens, shapes_of)
    if plain is not None:
        check_policy(policy, plain)
    return policy


def ready_reward(model: PreTrainedModel, engine: EngineConfig) -> RewardEngine:
    """The engine of a loaded classifier, packed and checked; see `RewardEngine`.

    Raises:
        ConfigError: it cannot be run in slots.
    """
    if not hasattr(model, "score"):
        raise ConfigError(
            f"{type(model).__name__} has no `score` head over a decoder; a reward must read a prefix token by token"
        )
    plain = _plain_forward(model, engine)
    reward = RewardEngine(_packed(model), engine)
    if plain is not None:
        check_reward(reward, plain)
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
def _naming(role: Role, name: str) -> Iterator[None]:
    """Say in a refusal which model it is about."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{role}.model {name!r}: {error}") from error


def _load(role: Role, auto_class: Any, config: ModelConfig) -> PreTrainedModel:
    torch.set_num_threads(config.num_threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = getattr(torch, config.dtype)
    model, report = auto_class.from_pretrained(
        config.model, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True
    )
    _check_report(role, model, report)
    return model.to(device).requires_grad_(False)


def _plain_forward(model: PreTrainedModel, engine: EngineConfig) -> PlainForward | None:
    """None where there is no room for the check's sequences, nor for a response to speak of."""
    assert engine.max_model_len is not None
    if refusal := layer_refusal(model.config):
        raise ConfigError(refusal)
    return PlainForward.of(model.eval(), engine.max_model_len) if engine.max_model_len > SHORTEST else None


def _packed(model: PreTrainedModel) -> PreTrainedModel:
    pack_linears(model)
    if model.device.type == "cpu":
        _leave_file(model)
    return model


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
