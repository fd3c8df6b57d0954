"""Run many rows through the main job on fake models; measure memory, rows per second and the time to resume.

The job is killed when half of the rows are committed, started again, and started once more when it is finished.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from jobs.command import add_overrides, command_parser, run_command


def main(arguments: list[str] | None = None) -> int:
    return run_command(_parser(), _growth, arguments)


def _growth(options: argparse.Namespace) -> None:
    from rich.console import Console

    from jobs.growth.growth_run import GrowthRun

    folder = options.folder or Path(tempfile.mkdtemp(prefix="stars-growth-"))
    run = GrowthRun(folder, options.rows, options.rows_per_shard, options.overrides)
    Console().print(run.measure())
    if options.plot:
        from jobs.growth.plot import draw_growth

        draw_growth(run.samples, options.plot)
    print(f"the figures of every second: {folder / 'samples.csv'}")


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("growth", __doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the input [1,000,000]")
    parser.add_argument("--rows-per-shard", type=int, help="rows committed together [the main job's own default]")
    parser.add_argument("--folder", type=Path, help="folder for input, output and samples.csv [a new temporary one]")
    parser.add_argument("--plot", type=Path, help="draw memory over time to this PNG (needs the extra `plots`)")
    add_overrides(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
