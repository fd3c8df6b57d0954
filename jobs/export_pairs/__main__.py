"""Write preference pairs in TRL's format from a finished run that kept its rejected candidates (keep_rejected: true).

Exit codes: 0 written, 2 the run or the output must be mended.
"""

import argparse
import sys

from jobs.export_pairs.pair_export import export_pairs
from jobs.export_pairs.preference_pairs import PAIRS
from pipeline.errors import StarsError


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        counts = export_pairs(options.run, options.output, options.level)
    except StarsError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    left_out = f", {counts.num_unordered} left out: the kept one's reward is not the higher" * bool(
        counts.num_unordered
    )
    print(f"{options.output}: {counts.num_pairs} pairs of {counts.num_rows} rows{left_out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m jobs.export_pairs", description=__doc__.partition("\n\nExit")[0])
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
