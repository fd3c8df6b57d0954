"""Rewards: one file a kind, each with `traits`, `load` and `shown`, found by the kind's name, or by MODULES where that
is the name of another module; and where the kind is a model, `needs`."""

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from actors.rewards.held import HeldReward
from actors.rewards.interface import ModelNeeds, Reward, RewardContext, RewardTraits
from pipeline.config.decoding import Decoding
from pipeline.config.model_rewards import RewardModel
from pipeline.config.rewards import RewardConfig
from pipeline.records import PromptRow

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

MODULES = {"judge": "chat_judge"}


def traits_of(config: Decoding) -> RewardTraits:
    """What the coordinator must know of a config's reward; see `reward_traits`."""
    return reward_traits(config.reward, RewardContext.of(config))


def reward_traits(reward: RewardConfig, context: RewardContext) -> RewardTraits:
    """What a reward can do; loads tokenizers at most.

    Raises:
        ConfigError: the reward cannot work with this policy.
    """
    return _kind(reward).traits(reward, context)


def load_reward(reward: RewardConfig, context: RewardContext) -> Reward:
    """The loaded reward, in the process that will score.

    Raises:
        ConfigError: a model cannot be loaded, or is none.
    """
    load = partial(_kind(reward).load, reward, context)
    return HeldReward(load) if reward.models else load()


def model_needs(section: RewardModel, config: "PreTrainedConfig", context: RewardContext) -> ModelNeeds:
    """What is to be known of a reward's model before it is loaded, from its own files.

    Raises:
        ConfigError: it cannot be what it is there for.
    """
    return _kind(section).needs(section, config, context)


def shown(config: Decoding, row: PromptRow) -> str:
    """What the reward reads of a row, for a person, with ⟨response⟩ in the place of the response.

    Raises:
        RowError: it cannot read this row.
    """
    return _kind(config.reward).shown(config.reward, RewardContext.of(config), row)


def _kind(reward: RewardConfig) -> Any:
    return import_module(f"actors.rewards.{MODULES.get(reward.kind, reward.kind)}")
