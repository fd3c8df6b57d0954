"""Strike the main job with faults on a local cluster of three nodes and compare what comes out with an undisturbed run.

A third of the faults strike a `--retry-errors` of rows that were made error rows.

Exit codes: 0 not one row lost, duplicated or different; 1 otherwise.
"""

import argparse
import sys
import tempfile
from pathlib import Path

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
    options = _parser().parse_args(arguments)
    from rich.console import Console

    from jobs.chaos.campaign import Campaign, CampaignError, draw_faults
    from jobs.chaos.report import report_table

    console = Console()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="stars-chaos-"))
    job = ["--config", options.config, *SIZES, *options.overrides]
    campaign = Campaign(job, folder, draw_faults(options.kills, options.seed, options.longest_delay_s), console)
    try:
        report = campaign.run()
    except CampaignError as error:
        console.print(f"error: {error}", highlight=False)
        return 1
    console.print(report_table(report))
    return 0 if report.total.is_clean else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.chaos",
        description=__doc__.partition("\n\nExit")[0],
        epilog="Exits 0 only if not one row was lost, duplicated or different.",
    )
    parser.add_argument("--kills", type=int, default=100, help="faults to strike with [100]")
    parser.add_argument("--seed", type=int, default=0, help="of kinds, times and targets [0]")
    parser.add_argument("--longest-delay-s", type=float, default=12.0, help="between two faults [12]")
    parser.add_argument("--folder", type=Path, help="for outputs and logs [a new temporary one]")
    parser.add_argument("--config", default=CONFIG, help=f"of the job [{CONFIG}]")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="set a key of the job's config")
    return parser


if __name__ == "__main__":
    sys.exit(main())
