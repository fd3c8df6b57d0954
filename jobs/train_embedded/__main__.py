"""Entry point: train the embedded default (tokenizer, policy, reward model) and write its prompts.

python -m jobs.train_embedded --output pipeline/embedded/assets
"""

import argparse
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, then train; torch is imported only after parsing, so that `--help` is instant."""
    parser = argparse.ArgumentParser(prog="python -m jobs.train_embedded", description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder for policy/, reward/ and prompts/")
    parser.add_argument("--seed", type=int, default=0, help="fixes prompts, data, pair labels and initial weights")
    options = parser.parse_args(arguments)

    from jobs.train_embedded.training import train_embedded

    train_embedded(options.output, options.seed)


if __name__ == "__main__":
    main()
