"""Contenders side by side over one prompt set: a report with its pictures, and every figure in compare.json.

python -m jobs.compare --config jobs/configs/compare-embedded.yaml output=outputs/compare

The config and the input are checked before Ray or a model library is imported. If the job is interrupted or killed, the
same command resumes it.
"""

import argparse
import sys

from jobs.command import config_parser, run_command
from jobs.compare.config import JUDGE_KINDS, CompareConfig
from jobs.compare.loading import load_comparison
from pipeline.config.loading import described_fields

DESCRIPTION = "Compare strategies and policies over one prompt set, at equal compute, by judges."


def main(arguments: list[str] | None = None) -> int:
    file_help = "YAML file; see jobs/configs/compare-embedded.yaml"
    parser = config_parser("compare", DESCRIPTION, CompareConfig, file_help, _more_keys())
    return run_command(parser, _compare, arguments, "finished runs are kept; run the same command to resume")


def _compare(options: argparse.Namespace) -> None:
    comparison = load_comparison(options.config, options.overrides)
    from jobs.compare.run_comparison import run_comparison  # here, because it imports Ray and transformers

    run_comparison(comparison)


def _more_keys() -> list[str]:
    lines = ["  (* stands for a name of your choice)"]
    for kind, section in JUDGE_KINDS.items():
        lines += [f"\nkeys of a judge of kind {kind}:", *(described_fields(section) or ["  none"])]
    return lines


if __name__ == "__main__":
    sys.exit(main())
