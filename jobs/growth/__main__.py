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
    parser.add_argument("--rows-per-shard", type=int, help="rows committed together [the job's own default]")
    parser.add_argument("--folder", type=Path, help="for input, output and samples.csv [a new temporary one]")
    parser.add_argument("--plot", type=Path, help="draw memory over time there, a PNG (needs the extra `plots`)")
    options = parser.parse_args(arguments)

    from rich.console import Console

    from jobs.growth.measuring import GrowthRun

    folder = options.folder or Path(tempfile.mkdtemp(prefix="stars-growth-"))
    run = GrowthRun(folder, options.rows, options.rows_per_shard)
    Console().print(run.measure())
    if options.plot:
        from jobs.growth.plot import draw_growth

        draw_growth(run.samples, options.plot)
    print(f"every second's figures: {folder / 'samples.csv'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
