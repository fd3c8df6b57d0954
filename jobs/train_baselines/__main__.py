"""Train what STARS is measured against: SFT and DPO of the embedded policy, with TRL (extra `baselines`).

python -m jobs.train_baselines output=outputs/baselines

A key given several values, as in dpo.learning_rate=[1e-4,3e-4], is a grid: the point with the highest gold score on
validation prompts is kept.
"""

import argparse
import sys

from jobs.command import config_parser, run_command
from jobs.train_baselines.config import BaselinesConfig
from pipeline.config.loading import load_tree
from pipeline.errors import ConfigError


def main(arguments: list[str] | None = None) -> int:
    description = "Train SFT and DPO baselines of the embedded policy with TRL."
    return run_command(config_parser("train_baselines", description, BaselinesConfig), _train, arguments)


def _train(options: argparse.Namespace) -> None:
    config = load_tree(BaselinesConfig, options.config, options.overrides)
    try:
        from jobs.train_baselines.grid import train_baselines  # here, because it imports TRL
    except ModuleNotFoundError as error:
        raise ConfigError(f"{error.name} is not installed; pip install -e '.[baselines]'") from None
    train_baselines(config)


if __name__ == "__main__":
    sys.exit(main())
