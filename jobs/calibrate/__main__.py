"""Find a strategy's knobs for a wanted cost, from rollouts of your own models on some prompts.

python -m jobs.calibrate --config jobs/configs/embedded.yaml --policy-tokens 220 --prompts prompts/train.parquet

Writes FOLDER/calibrated.yaml, which jobs.align takes as it is: `reward_threshold` and `beta` of stars or cards, `price`
and `transitions` of reservation. What the config says of them is ignored.
Everything is checked before Ray or a model library is imported. If the job is interrupted or killed, the same command
resumes it.
"""

import argparse
import sys

from jobs.calibrate.rollouts import rollout_config
from jobs.calibrate.search_variable import PLACEHOLDERS
from jobs.calibrate.solving import Target
from jobs.command import add_overrides, command_parser, run_command
from pipeline.config.align import AlignConfig
from pipeline.config.loading import read_tree, validate
from pipeline.dataset.columns import check_columns
from pipeline.dataset.plan import plan_input


def main(arguments: list[str] | None = None) -> int:
    return run_command(_parser(), _calibrate, arguments, "finished runs are kept; run the same command to resume")


def _calibrate(options: argparse.Namespace) -> None:
    config = _config(options)
    prompts = options.prompts or config.input
    check_columns(plan_input(prompts, None, options.rows).schema, rollout_config(config))
    target = _target(options)
    from rich.console import Console

    from jobs.calibrate.run_calibration import Calibration, CalibrationRuns, calibrate  # here, because it imports Ray

    calibration = Calibration(config, prompts, options.rows, options.folder, target, options.probes)
    calibrate(CalibrationRuns(calibration), Console())


def _config(options: argparse.Namespace) -> AlignConfig:
    tree = read_tree(options.config, options.overrides)
    strategy = tree.get("strategy")
    if isinstance(strategy, dict):
        strategy |= PLACEHOLDERS.get(str(strategy.get("name")), {})
    return validate(AlignConfig, tree)


def _target(options: argparse.Namespace) -> Target:
    if options.policy_tokens is not None:
        return Target("policy_tokens", options.policy_tokens)
    return Target("acceptance_rate", options.acceptance_rate)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("calibrate", "Find a strategy's knobs for a wanted cost.")
    parser.add_argument(
        "--config", metavar="FILE", help="config of the job to calibrate; its strategy is stars, cards or reservation"
    )
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--policy-tokens", type=float, help="wanted tokens pushed through the policy per response")
    wanted.add_argument("--acceptance-rate", type=float, help="wanted share of proposals accepted by rule, 0 to 1")
    parser.add_argument("--prompts", metavar="INPUT", help="prompts to calibrate on [the config's input]")
    parser.add_argument("--rows", type=int, default=400, help="number of prompts [400]")
    parser.add_argument("--probes", type=int, default=4, help="real runs that correct the simulation, at most [4]")
    parser.add_argument(
        "--folder", default="outputs/calibration", help="folder for the runs and calibrated.yaml [outputs/calibration]"
    )
    add_overrides(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
