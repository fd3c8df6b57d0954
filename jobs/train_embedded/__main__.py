"""Train the embedded default (tokenizer, policy, reward model) and write its prompts.

python -m jobs.train_embedded --output pipeline/embedded/assets
"""

import argparse
import sys
from pathlib import Path

from jobs.command import command_parser, run_command


def main(arguments: list[str] | None = None) -> int:
    parser = command_parser("train_embedded", __doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder for policy/, reward/ and prompts/")
    parser.add_argument("--seed", type=int, default=0, help="fixes prompts, data, pair labels and initial weights [0]")
    return run_command(parser, _train, arguments)


def _train(options: argparse.Namespace) -> None:
    from jobs.train_embedded.assets import train_embedded  # here, because it imports torch

    train_embedded(options.output, options.seed)


if __name__ == "__main__":
    sys.exit(main())
