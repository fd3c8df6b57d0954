"""A comparison from its checked config to its report: finish the runs, ask the judges, write it all down.

Runs that share both models and the engine are done together, with models that are loaded once. Whatever is finished is
not done again, so the same command goes on wherever it was interrupted; with nothing left to do no model is loaded.
"""

import json

from rich.console import Console

from actors.run import Job, finish_jobs
from pipeline.comparison.analysis import analyse
from pipeline.comparison.config import JudgeConfig
from pipeline.comparison.evidence import REWARD, Evidence
from pipeline.comparison.figures import CompareFigures
from pipeline.comparison.judging import Judged, Prompts, Runs, judge_scores, text_judge
from pipeline.comparison.loading import Comparison
from pipeline.comparison.outputs import read_run
from pipeline.comparison.report import write_report
from pipeline.comparison.resampling import Resampler
from pipeline.storage import locate


def run_comparison(comparison: Comparison) -> CompareFigures:
    """Do what is left of the comparison and write its report.

    Raises:
        StarsError: what went wrong, in one line.
    """
    console = Console()
    _finish_runs(comparison, console)
    runs = {c.name: [read_run(c.name, output) for output in c.outputs] for c in comparison.contenders}
    prompts, config = Prompts(runs), comparison.config
    judged = {name: _judge(comparison, name, judge, runs, prompts) for name, judge in comparison.judges.items()}
    judged[REWARD] = judge_scores(REWARD, lambda rows: rows.figure("reward"), runs, prompts, config.baseline_name)
    kinds = {name: judge.kind for name, judge in comparison.judges.items()} | {REWARD: "steering reward model"}
    resampler = Resampler(len(prompts), config.bootstrap_draws, config.bootstrap_seed)
    evidence = Evidence(runs, prompts, judged, kinds, config.baseline_name, config.num_examples, resampler)
    figures = analyse(evidence)
    write_report(figures, locate(config.output))
    return figures


def _finish_runs(comparison: Comparison, console: Console) -> None:
    groups: dict[str, list[Job]] = {}
    for contender in comparison.contenders:
        for run in contender.runs:
            if not run.directory.is_finished:
                models = run.config.model_dump(include={"policy", "reward", "engine"}, mode="json")
                jobs = groups.setdefault(json.dumps(models), [])
                jobs.append(Job(run.config, run.plan, run.columns, run.directory))
    for jobs in groups.values():
        finish_jobs(jobs, console)


def _judge(comparison: Comparison, name: str, judge: JudgeConfig, runs: Runs, prompts: Prompts) -> Judged:
    return judge_scores(name, text_judge(judge.kind), runs, prompts, comparison.config.baseline_name)
