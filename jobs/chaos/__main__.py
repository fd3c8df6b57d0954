"""Inject faults into the main job on a local cluster of three nodes and compare its output with an undisturbed run's.

A third of the faults hit a `--retry-errors` of rows that were turned into error rows before. The exit code is 0 only if
not one row is lost, duplicated or different.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from jobs.command import add_overrides, command_parser, run_command

CONFIG = "jobs/configs/embedded.yaml"
SIZES = [
    "max_rows=48",
    "baseline_rows=0",
    "dataset.rows_per_shard=4",
    "dataset.read_rows=16",
    "dataset.rows_per_file=40",
    "coordinator.call_timeout_s=10",
]


def main(arguments: list[str] | None = None) -> int:
    return run_command(_parser(), _chaos, arguments)


def _chaos(options: argparse.Namespace) -> int:
    from rich.console import Console

    from jobs.chaos.campaign import Campaign, draw_faults
    from jobs.chaos.fault_table import report_table

    console = Console()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="stars-chaos-"))
    job = ["--config", options.config, *SIZES, *options.overrides]
    report = Campaign(job, folder, draw_faults(options.kills, options.seed, options.longest_delay_s), console).run()
    console.print(report_table(report))
    return 0 if report.total.is_clean else 1


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("chaos", __doc__)
    parser.add_argument("--kills", type=int, default=100, help="faults to inject [100]")
    parser.add_argument("--seed", type=int, default=0, help="draws the faults' kinds, times and targets [0]")
    parser.add_argument("--longest-delay-s", type=float, default=12.0, help="seconds between two faults, at most [12]")
    parser.add_argument("--folder", type=Path, help="folder for outputs and logs [a new temporary one]")
    parser.add_argument("--config", default=CONFIG, help=f"config of the job [{CONFIG}]")
    add_overrides(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
