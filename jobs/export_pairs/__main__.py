"""Write preference pairs in TRL's format from a finished run of jobs.align with keep_rejected: true."""

import argparse
import sys

from jobs.command import command_parser, run_command
from jobs.export_pairs.pair_export import export_pairs
from jobs.export_pairs.preference_pairs import PAIRS


def main(arguments: list[str] | None = None) -> int:
    return run_command(_parser(), _export, arguments)


def _export(options: argparse.Namespace) -> None:
    counts = export_pairs(options.run, options.output, options.level)
    left_out = f", {counts.num_unordered} left out: the kept one's reward is not the higher one"
    print(
        f"{options.output}: {counts.num_pairs} pairs of {counts.num_rows} rows{left_out * bool(counts.num_unordered)}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("export_pairs", __doc__)
    parser.add_argument("run", metavar="RUN_DIR", help="output of jobs.align with keep_rejected=true")
    parser.add_argument("--output", required=True, help="a file that ends with .parquet or .jsonl")
    parser.add_argument(
        "--level",
        choices=tuple(PAIRS),
        default="response",
        help="response: the row's response against rejected ones; segment: kept against rejected segments after prompt "
        "+ response so far [response]",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
