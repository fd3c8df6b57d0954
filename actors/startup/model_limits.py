"""What the models' own configs say, read without loading a model: how many tokens fit, and whether a reward is one."""

from typing import TYPE_CHECKING

from actors.engines.backends import Role
from actors.rewards.labels import label_weights
from pipeline.config.decoding import EngineConfig
from pipeline.config.model import ModelConfig
from pipeline.config.model_rewards import ClassifierReward
from pipeline.config.rewards import RewardConfig
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

FAKE_LIMIT = 4096
ModelConfigs = dict[Role, "PreTrainedConfig"]


def read_model_configs(policy: ModelConfig, reward: RewardConfig) -> ModelConfigs:
    """The two models' own configs; empty for fakes.

    Raises:
        ConfigError: one cannot be read, or the reward model is none.
    """
    if policy.backend == "fake":
        return {}
    configs: ModelConfigs = {"policy": _read_config("policy", policy)}
    return configs | read_reward_config(reward)


def read_reward_config(reward: RewardConfig) -> ModelConfigs:
    """The reward model's own config; empty for a fake.

    Raises:
        ConfigError: it cannot be read, or is no reward model.
    """
    if reward.is_fake or not isinstance(reward, ClassifierReward):
        return {}
    config = _read_config("reward", reward, reward.trust_remote_code)
    label_weights(reward.model, reward, config)
    return {"reward": config}


def longest_model_len(models: ModelConfigs, engine: EngineConfig, max_new_tokens: int) -> int:
    """`engine.max_model_len`, or the smaller of the two models' own position limits.

    Raises:
        ConfigError: a model cannot hold the wanted length, or it leaves no room for a prompt.
    """
    wanted = engine.max_model_len
    limits = {role: _position_limit(role, model) for role, model in models.items()}
    role, limit = min(limits.items(), key=lambda item: item[1], default=("fake models", FAKE_LIMIT))
    if wanted is not None and wanted > limit:
        raise ConfigError(f"engine.max_model_len = {wanted} is more than the {limit} positions of {role}")
    if max_new_tokens >= (wanted or limit):
        raise ConfigError(
            f"generation.max_new_tokens = {max_new_tokens} leaves no room for a prompt in the "
            f"{wanted or limit} tokens of engine.max_model_len"
        )
    return wanted or limit


def _read_config(role: str, model: ModelConfig, trust_remote_code: bool = False) -> "PreTrainedConfig":
    from transformers import AutoConfig  # here, because it takes seconds, and a run of fakes asks for none

    try:
        return AutoConfig.from_pretrained(model.model, revision=model.revision, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{role}.model {model.model!r}: {str(error).splitlines()[0]}") from None


def _position_limit(role: str, config: "PreTrainedConfig") -> int:
    limit = getattr(config.get_text_config(), "max_position_embeddings", None)
    if limit is None:
        raise ConfigError(f"the {role} model names no max_position_embeddings; set engine.max_model_len")
    return int(limit)
