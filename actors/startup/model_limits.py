"""What the models' own files say, read without loading a model: what they are, and how many tokens fit."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from actors.engines.backends import Role
from actors.rewards import model_needs
from actors.rewards.interface import ModelNeeds, RewardContext
from pipeline.config.decoding import EngineConfig
from pipeline.config.model import ModelConfig
from pipeline.config.model_rewards import RewardModel
from pipeline.config.rewards import RewardConfig
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

FAKE_LIMIT = 4096
POLICY_NEEDS = ModelNeeds("AutoModelForCausalLM")


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A model that will be loaded: its section, its own config, and what it needs."""

    role: Role
    section: ModelConfig
    config: "PreTrainedConfig"
    needs: ModelNeeds


ModelConfigs = tuple[ModelFacts, ...]


def read_model_configs(policy: ModelConfig, reward: RewardConfig, context: RewardContext) -> ModelConfigs:
    """The models' own configs; empty for fakes.

    Raises:
        ConfigError: one cannot be read, or a reward's model cannot be what it is there for.
    """
    if policy.backend == "fake":
        return ()
    facts = ModelFacts("policy", policy, _read_config("policy", policy), POLICY_NEEDS)
    return (facts, *read_reward_configs(reward, context))


def read_reward_configs(reward: RewardConfig, context: RewardContext) -> ModelConfigs:
    """The own configs of a reward's models; empty for a fake.

    Raises:
        ConfigError: one cannot be read, or cannot be what it is there for.
    """
    if reward.is_fake:
        return ()
    found = []
    for section in reward.models:
        assert isinstance(section, RewardModel)
        config = _read_config("reward", section)
        found.append(ModelFacts("reward", section, config, model_needs(section, config, context)))
    return tuple(found)


def longest_model_len(models: ModelConfigs, engine: EngineConfig, max_new_tokens: int) -> int:
    """`engine.max_model_len`, or the smallest of the models' own position limits.

    Raises:
        ConfigError: a model cannot hold the wanted length, or it leaves no room for a prompt.
    """
    wanted = engine.max_model_len
    limits = [(_position_limit(model), model.role) for model in models if model.needs.bounds_length]
    limit, role = min(limits, default=(FAKE_LIMIT, "fake models"))
    if wanted is not None and wanted > limit:
        raise ConfigError(f"engine.max_model_len = {wanted} is more than the {limit} positions of {role}")
    if max_new_tokens >= (wanted or limit):
        raise ConfigError(
            f"generation.max_new_tokens = {max_new_tokens} leaves no room for a prompt in the "
            f"{wanted or limit} tokens of engine.max_model_len"
        )
    return wanted or limit


def _read_config(role: Role, section: ModelConfig) -> "PreTrainedConfig":
    from actors.engines.model_classes import own_config  # imports torch, which a run of fakes does without

    try:
        return own_config(section)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{role}.model {section.model!r}: {str(error).splitlines()[0]}") from None


def _position_limit(model: ModelFacts) -> int:
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if limit is None:
        raise ConfigError(f"the {model.role} model names no max_position_embeddings; set engine.max_model_len")
    return int(limit)
