"""Choice of engine, once: (role, backend) → where its loader lives. A backend is imported only when chosen."""

from importlib import import_module
from typing import Any, Literal

from pipeline.config.decoding import EngineConfig
from pipeline.config.model import ModelConfig

Role = Literal["policy", "reward"]

LOADERS: dict[tuple[Role, str], tuple[str, str]] = {
    ("policy", "transformers"): ("actors.engines.pretrained", "load_policy"),
    ("reward", "transformers"): ("actors.engines.pretrained", "load_reward"),
    ("policy", "fake"): ("actors.engines.fakes", "FakePolicy"),
    ("reward", "fake"): ("actors.engines.fakes", "FakeReward"),
}


def load_engine(role: Role, config: ModelConfig, engine: EngineConfig) -> Any:
    """The engine of a role: `propose(cohort) -> Proposals`, or `score(slots_R, prefixes) -> rewards_R, CallStats`."""
    module, name = LOADERS[role, config.backend]
    return getattr(import_module(module), name)(config, engine)
