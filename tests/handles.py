"""Model handles without Ray: the same `.remote(...)` calls, run in one thread per model."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from actors.rewards import load_reward
from actors.rewards.classifier import PrefixReward
from actors.rewards.conversations import ConversationReader
from actors.rewards.interface import RewardContext


def reward_of(config):
    """The reward of a config, loaded here."""
    return load_reward(config.reward, RewardContext.of(config))


def prefix_reward(reader, engine, max_model_len):
    """A reward of an engine whose prompts `reader` makes."""
    return PrefixReward(ConversationReader(reader, False, "finished", max_model_len, 1000), engine)


class LocalMethod:
    def __init__(self, method, executor):
        self.method, self.executor = method, executor

    def remote(self, *args):
        return asyncio.wrap_future(self.executor.submit(self.method, *args))


class LocalHandle:
    """Wraps a policy or reward engine as its actor handle would; `close` ends its thread."""

    def __init__(self, engine):
        self.executor = ThreadPoolExecutor(1)
        for name in ("propose", "score"):
            if hasattr(engine, name):
                setattr(self, name, LocalMethod(getattr(engine, name), self.executor))

    def close(self):
        self.executor.shutdown()
