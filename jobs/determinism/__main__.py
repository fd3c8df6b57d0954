"""Count the rows in which a floating-point difference flips a token: the main job on one, two and four cells.

The cells also have other numbers of slots, cohorts, shards and speculative proposals. The table has two lines for each
numeric setting: float32 with one thread, float32 with two, and bfloat16.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from jobs.command import add_overrides, command_parser, run_command
from jobs.determinism.shapes import SETTINGS, differences_table, measure

CONFIG = "jobs/configs/embedded.yaml"


def main(arguments: list[str] | None = None) -> int:
    return run_command(_parser(), _determinism, arguments)


def _determinism(options: argparse.Namespace) -> None:
    from rich.console import Console

    folder = options.folder or Path(tempfile.mkdtemp(prefix="stars-determinism-"))
    sizes = [f"max_rows={options.rows}", "baseline_rows=0"]
    job = ["--config", options.config, *sizes, *options.overrides]
    Console().print(differences_table(list(measure(job, folder, options.setting or list(SETTINGS)))))


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("determinism", __doc__)
    parser.add_argument("--rows", type=int, default=1000, help="rows of the config's input [1,000]")
    settings = "; ".join(SETTINGS)
    parser.add_argument(
        "--setting",
        action="append",
        choices=SETTINGS,
        metavar="SETTING",
        help=f"only this setting; may be repeated [{settings}]",
    )
    parser.add_argument("--folder", type=Path, help="folder for outputs and logs [a new temporary one]")
    parser.add_argument("--config", default=CONFIG, help=f"config of the job [{CONFIG}]")
    add_overrides(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
