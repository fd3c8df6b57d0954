"""Simulate 1 to 64 cells on this machine: the real graph, the real coordinators, fake models on virtual time.

First measure what real calls cost on the hardware in question; then simulate a cluster of it on any machine:

python -m jobs.simulate --measure jobs/configs/embedded.yaml --costs costs.json
python -m jobs.simulate --costs costs.json --cells 1,4,16,64 --output outputs/simulation
"""

import argparse
import json
import sys
from pathlib import Path

from jobs.command import add_overrides, command_parser, run_command
from pipeline.config.loading import load_config
from pipeline.errors import ConfigError
from pipeline.storage import locate


def main(arguments: list[str] | None = None) -> int:
    return run_command(_parser(), _measure_or_simulate, arguments)


def _measure_or_simulate(options: argparse.Namespace) -> None:
    if options.measure:
        _measure(options)
    else:
        _simulate(options)


def _measure(options: argparse.Namespace) -> None:
    config = load_config(options.measure, options.overrides)
    from jobs.simulate.measuring import measure_config  # here, because it imports Ray and transformers

    costs = measure_config(config, options.prompts, options.hardware)
    costs.save(locate(options.costs))
    print(f"{options.costs}: {costs}")


def _simulate(options: argparse.Namespace) -> None:
    if options.overrides:
        raise ConfigError("key=value is for --measure")
    if not Path(options.costs).is_file():
        raise ConfigError(f"--costs {options.costs!r} does not exist; make it with --measure CONFIG")
    cells = _cells(options.cells)
    from rich.console import Console

    from jobs.simulate.costs import Costs
    from jobs.simulate.study import Workload, draw_study, run_study, study_record, study_table

    costs = Costs.load(locate(options.costs))
    workload = Workload(
        rows_per_cell=options.rows_per_cell,
        max_new_tokens=options.max_new_tokens,
        segment_size=costs.segment_size,
        slots=costs.slots,
        rows_per_shard=options.rows_per_shard,
    )
    console = Console()
    points = run_study(costs, workload, cells, console)
    console.print(study_table(points))
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "simulation.json").write_text(json.dumps(study_record(costs, workload, points), indent=2) + "\n")
    draw_study(workload, points, folder / "simulation.png")
    print(f"written: {folder}/simulation.json and {folder}/simulation.png")


def _cells(text: str) -> list[int]:
    try:
        cells = sorted({int(number) for number in text.split(",")})
    except ValueError:
        raise ConfigError(f"--cells {text!r} must be whole numbers with commas between them") from None
    if not cells or cells[0] < 1:
        raise ConfigError(f"--cells {text!r} must be 1 or more")
    return cells


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("simulate", __doc__)
    parser.add_argument(
        "--measure", metavar="CONFIG", help="instead of simulating, measure the models of this config and write --costs"
    )
    parser.add_argument("--prompts", type=int, default=256, help="with --measure: prompts to align [256]")
    parser.add_argument("--hardware", help="with --measure: the name of the hardware [the processor's]")
    parser.add_argument("--costs", metavar="FILE", default="costs.json", help="what model calls cost [costs.json]")
    parser.add_argument("--cells", default="1,2,4,8,16,32,64", help="numbers of cells to simulate [1,2,4,8,16,32,64]")
    parser.add_argument("--rows-per-cell", type=int, default=2048, help="rows for each cell [2048]")
    parser.add_argument("--rows-per-shard", type=int, help="rows of a shard [the main job's own default]")
    parser.add_argument("--max-new-tokens", type=int, default=128, help="tokens of a response [128]")
    parser.add_argument("--output", default="outputs/simulation", help="folder for JSON and plot [outputs/simulation]")
    add_overrides(parser, "with --measure: set a key of its config")
    return parser


if __name__ == "__main__":
    sys.exit(main())
