"""One benchmark, from a checked config to its report: contenders start once, then alternate round by round."""

import importlib.util
import os
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from actors.cluster.model_loading import last_line
from actors.cluster.session import cluster
from jobs.benchmark.config import BenchmarkConfig
from jobs.benchmark.contenders import Contender, Starter, Unavailable, VllmContender
from jobs.benchmark.measurement import Measurement
from jobs.benchmark.model_folders import ModelFolders, make_model_folders
from jobs.benchmark.plot import draw_report
from jobs.benchmark.results import BenchmarkReport, ContenderReport, find_ratios, this_machine
from jobs.benchmark.tables import show_report
from jobs.benchmark.workload import Workload
from pipeline.errors import ConfigError

WIDTH = 130  # where no terminal says how wide it is


def run_benchmark(config: BenchmarkConfig) -> BenchmarkReport:
    """Measure, show the tables, write `benchmark.json` and `benchmark.png`.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("matplotlib is not installed; it comes with the extra: pip install -e '.[plots]'")
    os.environ.setdefault("RAY_worker_niceness", "0")  # with Ray's 15 any other process would starve its workers
    console, output = Console(width=None if sys.stdout.isatty() else WIDTH), Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="stars-benchmark-") as root, cluster():
        folders = make_model_folders(config, Path(root))
        report = _measure(config, folders, output, console)
    report.save(output / "benchmark.json")
    draw_report(report, output / "benchmark.png")
    show_report(console, report)
    console.print(f"written: {output / 'benchmark.json'}, {output / 'benchmark.png'}", soft_wrap=True)
    return report


def _measure(config: BenchmarkConfig, folders: ModelFolders, output: Path, console: Console) -> BenchmarkReport:
    load, starter = os.getloadavg()[0], Starter(config, folders, output)
    entries = [entry for name in config.contenders for entry in starter.start(name)]
    contenders = [entry for entry in entries if not isinstance(entry, Unavailable)]
    failures = {entry.name: entry.reason for entry in entries if isinstance(entry, Unavailable)}
    rounds: dict[str, list[Measurement]] = {entry.name: [] for entry in entries}
    for number in range(config.warmup_rounds + config.rounds):
        is_measured = number >= config.warmup_rounds
        for contender in contenders:
            if contender.name not in failures:
                workload = Workload.of(config, folders.vocabulary_size, number, contender.name)
                outcome = _run_round(contender, workload.head(contender.num_prompts))
                _tell(console, contender.name, number - config.warmup_rounds + 1 if is_measured else None, outcome)
                if isinstance(outcome, str):
                    failures[contender.name] = outcome
                elif is_measured:
                    rounds[contender.name].append(outcome)
    for contender in contenders:
        contender.close()
    reports = [ContenderReport.of(name, found, failures.get(name)) for name, found in rounds.items()]
    vllm = next((c.process.version for c in contenders if isinstance(c, VllmContender)), None)
    return BenchmarkReport(
        config, this_machine(vllm, load), tuple(reports), tuple(find_ratios(reports, config.acceptance))
    )


def _run_round(contender: Contender, workload: Workload) -> Measurement | str:
    """The measurement, or what went wrong: if one contender fails, the others keep their figures."""
    try:
        return contender.run(workload)
    except Exception as error:
        return last_line(error)


def _tell(console: Console, name: str, number: int | None, outcome: Measurement | str) -> None:
    when = "warm-up" if number is None else f"round {number}"
    figure = outcome if isinstance(outcome, str) else f"{outcome.accepted_tokens_per_s:,.1f} accepted tokens/s"
    console.print(f"{when}  {name}: {figure}", highlight=False, markup=False, soft_wrap=True)
