"""The config the tests start from: fake models, everything else as shipped."""

from typing import Any

from pipeline.config.align import AlignConfig


def fake_config(**sections: Any) -> AlignConfig:
    """A config with fake models; `sections` replace whole top-level values."""
    tree: dict[str, Any] = {
        "input": "prompts.parquet",
        "output": "out",
        "policy": {"backend": "fake"},
        "reward": {"backend": "fake"},
        "strategy": {"name": "stars", "reward_threshold": 0.5, "segment_size": 8},
        "generation": {"max_new_tokens": 24},
    }
    return AlignConfig.model_validate(tree | sections)
