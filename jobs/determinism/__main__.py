"""Count the rows in which a floating-point difference flips a token: the main job on one, two and four cells.

The cells also have other slots, cohorts, shards and proposals drawn ahead.

Two lines per numeric setting: float32 with one thread, with two, and bfloat16. Exit codes: 0 measured; 1 a run failed.
"""

import argparse
import sys
import tempfile
from pathlib import Path

CONFIG = "jobs/configs/embedded.yaml"


def main(arguments: list[str] | None = None) -> int:
    from rich.console import Console

    from jobs.determinism.measuring import SETTINGS, DeterminismError, differences_table, measure

    parser = argparse.ArgumentParser(prog="python -m jobs.determinism", description=__doc__)
    parser.add_argument("--rows", type=int, default=1000, help="of the config's input [1,000]")
    parser.add_argument("--setting", action="append", choices=SETTINGS, help="only this one; may be repeated [all]")
    parser.add_argument("--folder", type=Path, help="for outputs and logs [a new temporary one]")
    parser.add_argument("--config", default=CONFIG, help=f"of the job [{CONFIG}]")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="set a key of the job's config")
    options = parser.parse_args(arguments)

    folder = options.folder or Path(tempfile.mkdtemp(prefix="stars-determinism-"))
    sizes = [f"max_rows={options.rows}", "baseline_rows=0"]
    job = ["--config", options.config, *sizes, *options.overrides]
    try:
        measured = list(measure(job, folder, options.setting or list(SETTINGS)))
    except DeterminismError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    Console().print(differences_table(measured))
    return 0


if __name__ == "__main__":
    sys.exit(main())
