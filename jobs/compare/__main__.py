"""Contenders side by side over one prompt set: a report with its pictures, and every figure in compare.json.

python -m jobs.compare --config jobs/configs/compare-embedded.yaml output=outputs/compare

The config and the input are checked before Ray or a model library is imported. Killed anywhere, the same command goes
on. Exit codes: 0 done, 1 it failed, 2 mend config or input first; 130 or 143 when interrupted.
"""

import argparse
import sys

from jobs.compare.config import JUDGE_KINDS, CompareConfig
from jobs.compare.loading import load_comparison
from jobs.interrupts import Interrupted, raise_on_signals
from pipeline.config.loading import described_fields
from pipeline.errors import StarsError


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        comparison = load_comparison(options.config, options.overrides)
        raise_on_signals()
        from jobs.compare.comparison import run_comparison  # here, because it imports Ray and transformers

        run_comparison(comparison)
    except Interrupted as interruption:
        print(f"{interruption}; what is done is kept, the same command goes on", file=sys.stderr)
        return interruption.exit_code
    except StarsError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.compare",
        description="Compare strategies and policies over one prompt set, at equal compute, by judges.",
        epilog="keys, with their defaults (* stands for a name of yours):\n"
        + "\n".join([*described_fields(CompareConfig), *_judge_fields()]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file; see jobs/configs/compare-embedded.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="set a key of the config, after the file")
    return parser


def _judge_fields() -> list[str]:
    lines = []
    for kind, section in JUDGE_KINDS.items():
        lines += [f"\nkeys of a judge of kind {kind}:", *described_fields(section)]
    return lines


if __name__ == "__main__":
    sys.exit(main())
