"""Train what STARS is measured against: SFT and DPO of the embedded policy, with TRL (extra `baselines`).

python -m jobs.train_baselines output=outputs/baselines

A knob given several values, as in dpo.learning_rate=[1e-4,3e-4], is a grid: the point of the highest gold score on
validation prompts is kept. Exit codes: 0 done, 2 config or pairs must be mended.
"""

import argparse
import sys

from jobs.train_baselines.config import BaselinesConfig
from pipeline.config.loading import described_fields, load_tree
from pipeline.errors import ConfigError, StarsError


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        config = load_tree(BaselinesConfig, options.config, options.overrides)
        try:
            from jobs.train_baselines.grid import train_baselines  # here, because it imports TRL
        except ModuleNotFoundError as error:
            raise ConfigError(f"{error.name} is not installed; pip install -e '.[baselines]'") from None
        train_baselines(config)
    except StarsError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.train_baselines",
        description="Train SFT and DPO baselines of the embedded policy with TRL.",
        epilog="keys, with their defaults:\n" + "\n".join(described_fields(BaselinesConfig)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="set a key of the config, after the file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
