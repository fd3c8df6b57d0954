"""A comparison from its checked config to its report: finish the runs, ask the judges, write the report.

Runs that share both models and the engine are done together, with models that are loaded once. Finished work is kept,
so the same command resumes an interrupted comparison; with nothing left to do no model is loaded.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from actors.batch.run import Job, finish_jobs, stars_error
from actors.cluster.session import cluster
from jobs.compare.alpaca_eval import write_alpaca_eval
from jobs.compare.config import EmbeddedJudge, JudgeConfig, RewardModelJudge
from jobs.compare.figures.analysis import analyse
from jobs.compare.figures.evidence import REWARD, Evidence
from jobs.compare.figures.records import CompareFigures
from jobs.compare.figures.resampling import Resampler
from jobs.compare.judges.judgements import Judged, Prompts, Runs, judge_pairs, judge_scores, text_judge
from jobs.compare.judges.llm_judge import LlmPairJudge
from jobs.compare.judges.reward_judge import reward_model_judge
from jobs.compare.loading import Comparison
from jobs.compare.report.verdict import verdict
from jobs.compare.report.writing import write_report
from pipeline.runs.run_rows import read_run
from pipeline.storage import Location, locate


def run_comparison(comparison: Comparison) -> CompareFigures:
    """Do what is left of the comparison, write its report and print the verdict.

    Raises:
        StarsError: what went wrong, in one line.
    """
    console = Console()
    with _one_line_errors():
        _finish_runs(comparison, console)
        evidence = _gather(comparison, console)
        figures = analyse(evidence)
    folder = locate(comparison.config.output)
    write_report(figures, folder)
    _export(comparison, evidence.runs, folder / "alpaca_eval")
    for sentence in verdict(figures):
        console.print(f"- {sentence.replace('**', '')}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"report: {folder}/report.html", highlight=False, soft_wrap=True)
    return figures


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise stars_error(error) or error from error


def _finish_runs(comparison: Comparison, console: Console) -> None:
    groups: dict[str, list[tuple[str, Job]]] = {}
    for contender in comparison.contenders:
        for run in contender.runs:
            if not run.directory.is_finished:
                models = run.config.model_dump(include={"policy", "reward", "engine", "cluster"}, mode="json")
                job = Job(run.config, run.plan, run.columns, run.directory)
                groups.setdefault(json.dumps(models), []).append((contender.name, job))
    if not groups:
        return
    with cluster():
        for named in groups.values():
            names = ", ".join(f"{name} (seed {job.config.seed})" for name, job in named)
            console.print(f"to do: {names}", highlight=False, soft_wrap=True)
            finish_jobs([job for _, job in named], console)


def _gather(comparison: Comparison, console: Console) -> Evidence:
    config = comparison.config
    runs = {c.name: [read_run(output) for output in c.outputs] for c in comparison.contenders}
    prompts = Prompts(runs)
    judged = {
        name: _judge(comparison, name, judge, runs, prompts, console) for name, judge in comparison.judges.items()
    }
    judged[REWARD] = judge_scores(REWARD, lambda rows: rows.figure("reward"), runs, prompts, config.baseline_name)
    kinds = {name: judge.kind for name, judge in comparison.judges.items()} | {REWARD: "the reward that steered"}
    resampler = Resampler(len(prompts), config.bootstrap_draws, config.bootstrap_seed)
    return Evidence(runs, prompts, judged, kinds, config.baseline_name, config.num_examples, resampler)


def _judge(
    comparison: Comparison, name: str, judge: JudgeConfig, runs: Runs, prompts: Prompts, console: Console
) -> Judged:
    baseline = comparison.config.baseline_name
    store = Path(comparison.config.output).expanduser() / "judgements" / f"{name}.jsonl"
    if isinstance(judge, EmbeddedJudge):
        return judge_scores(name, text_judge(judge.kind), runs, prompts, baseline)
    if isinstance(judge, RewardModelJudge):
        return judge_scores(name, reward_model_judge(judge, runs, store, console), runs, prompts, baseline)
    console.print(f"{judge.model} judges pairs …", highlight=False, soft_wrap=True)
    return judge_pairs(name, LlmPairJudge(judge, store), runs, prompts, baseline)


def _export(comparison: Comparison, runs: Runs, folder: Location) -> None:
    for name, seeds in runs.items():
        for rows in seeds:
            dataset = comparison.config.dataset_name or rows.facts.dataset_name
            write_alpaca_eval(folder, name, rows, dataset)
