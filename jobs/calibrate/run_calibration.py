"""A calibration from its checked config to its YAML: rollouts, the simulation's knobs, real runs that correct them.

All runs are ordinary runs of the main job over the same prompts, each in its own folder, so they work on any cluster
and resume after an interruption. The YAML gets the knobs of the real run nearest to the target, and promises what that
run measured.
"""

from dataclasses import dataclass

from rich.console import Console

from actors.batch.deciding_sources import DECIDING_SOURCES
from actors.batch.run import Job, finish_jobs
from actors.cluster.session import cluster
from jobs.calibrate.calibrated_yaml import Calibrated, Probe, document, probe_lines, reward_table
from jobs.calibrate.law import TransitionLaw
from jobs.calibrate.rollouts import RolloutRow, Rollouts, gather_rollouts, rollout_config
from jobs.calibrate.search_variable import Knobs, file_name
from jobs.calibrate.simulated_outcome import Outcome, simulate
from jobs.calibrate.solving import Target, aim, solve, solve_value
from pipeline.config.align import AlignConfig
from pipeline.dataset.columns import InputColumns, check_columns
from pipeline.dataset.plan import InputPlan, plan_input
from pipeline.runs.directory import RunDirectory
from pipeline.runs.metrics import RunMetrics
from pipeline.runs.run_rows import read_run
from pipeline.storage import locate

TOLERANCE = 0.03  # a real run as near as this ends the search: a few hundred prompts resolve no more
RESULT = "calibrated.yaml"


@dataclass(frozen=True, slots=True)
class Calibration:
    """What `jobs.calibrate` was given: the job to calibrate, the prompts for it, a folder and the target."""

    config: AlignConfig
    prompts: str
    num_prompts: int
    folder: str
    target: Target
    max_probes: int


class CalibrationRuns:
    """The runs over the calibration prompts. The folder is checked before any model loads."""

    def __init__(self, calibration: Calibration) -> None:
        self.calibration = calibration
        self.job = self._job(rollout_config(calibration.config), "rollouts", 0)

    def rollouts(self, console: Console) -> Rollouts:
        job = self.job
        _finish(job, console)
        rows = read_run(job.config.output)
        names = ("segments", "num_policy_tokens", "prompt_reward", "max_new_tokens")
        segments, pushed, prompt_rewards, longest = (rows.table.column(name).to_pylist() for name in names)
        columns = (segments, rows.is_stopped.tolist(), pushed, prompt_rewards, longest)
        return gather_rollouts(RolloutRow(*cells) for cells in zip(*columns, strict=True))

    def probe(self, knobs: Knobs, number: int, console: Console) -> Outcome:
        """What `knobs` really cost and reach, with draws that no rollout used."""
        config = self.calibration.config.model_copy(update={"strategy": knobs})
        stage = _finish(self._job(config, f"probe-{file_name(knobs)}", number), console).aligned
        return Outcome(stage.policy_tokens_per_row or 0.0, stage.acceptance_rate or 0.0, stage.mean_reward or 0.0)

    def _job(self, config: AlignConfig, name: str, number: int) -> Job:
        calibration = self.calibration
        ours = {
            "input": calibration.prompts,
            "max_rows": calibration.num_prompts,
            "output": f"{calibration.folder.rstrip('/')}/{name}",
            "seed": (config.seed + number) % 2**63,
            "baseline_rows": 0,
        }
        config = config.model_copy(update=ours)
        plan: InputPlan = plan_input(config.input, config.dataset.rows_per_shard, config.max_rows)
        columns: InputColumns = check_columns(plan.schema, config)
        return Job(config, plan, columns, RunDirectory.open(config, plan, DECIDING_SOURCES))


def calibrate(runs: CalibrationRuns, console: Console) -> Calibrated:
    """Measure, solve, correct; write the YAML and print the result.

    Raises:
        StarsError: what went wrong, in one line.
    """
    with cluster():
        calibrated = _calibrate(runs, console)
    place = locate(runs.calibration.folder) / RESULT
    place.write_text(document(calibrated, runs.calibration.prompts))
    expected = f"{runs.calibration.target.name}: {calibrated.predicted:.4g} expected"
    console.print(f"{expected}; config: {place}", soft_wrap=True)
    return calibrated


def _calibrate(runs: CalibrationRuns, console: Console) -> Calibrated:
    calibration, target = runs.calibration, runs.calibration.target
    rollouts = runs.rollouts(console)
    console.print("\n".join(reward_table(rollouts)), highlight=False)
    law = TransitionLaw(rollouts)
    knobs = solve(law, calibration.config.strategy, target)
    probes: list[Probe] = []
    while not probes or (
        len(probes) < calibration.max_probes
        and target.miss(probes[-1].measured) > TOLERANCE
        and file_name(knobs)
        not in {file_name(probe.knobs) for probe in probes}  # the same run would give the same answer
    ):
        measured = runs.probe(knobs, len(probes) + 1, console)
        probes.append(Probe(knobs, simulate(law, knobs), measured))
        console.print(probe_lines(probes[-1:])[0], highlight=False, soft_wrap=True)
        knobs = solve_value(law, knobs, target, aim(target, [(p.simulated, p.measured) for p in probes]))
    best = min(probes, key=lambda probe: target.miss(probe.measured))
    config = calibration.config.model_copy(update={"strategy": best.knobs})
    return Calibrated(config, rollouts, target, tuple(probes), target.of(best.measured))


def _finish(job: Job, console: Console) -> RunMetrics:
    if job.run.is_finished:
        return RunMetrics.load(job.run.metrics_file)
    return finish_jobs([job], console)[0]
