"""Run many rows through the job on fake models; measure memory, rows per second and the time to resume.

The job is killed when half of the rows are committed, started again, and started once more when it is finished.
"""

import argparse
import sys
import tempfile
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m jobs.growth", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the input [1,000,000]")
    parser.add_argument("--rows-per-shard", type=int, default=100, help="rows committed together [100]")
    parser.add_argument("--folder", type=Path, help="for input, output and samples.csv [a new temporary one]")
    options = parser.parse_args(arguments)

    from rich.console import Console

    from actors.growth import GrowthRun

    folder = options.folder or Path(tempfile.mkdtemp(prefix="stars-growth-"))
    Console().print(GrowthRun(folder, options.rows, options.rows_per_shard).measure())
    print(f"every second's figures: {folder / 'samples.csv'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
