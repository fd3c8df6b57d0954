"""The campaign: runs of the main job, hit by faults at random times until they finish, compared with an undisturbed
one.

Kinds, times and targets are drawn from the seed; what a process is doing at that time is not, which is the point.
A third of the faults hit a `--retry-errors`: rows of a finished output are turned into error rows, and must come out as
they were.
"""

import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from jobs.chaos import slow_align
from jobs.chaos.error_rows import inject_error_rows
from jobs.chaos.faults import FAULTS, Target
from jobs.chaos.local_cluster import LocalCluster
from jobs.output_comparison import Differences, compare_outputs, read_rows
from jobs.started_job import StartedJob
from pipeline.errors import StarsError

POLL_INTERVAL_S = 0.05
MAX_FAILED_STARTS = 3  # a run that fails so often without a new fault has not survived the last one
RUN_TIMEOUT_S = 1800.0
RETRY_FRACTION = 1 / 3  # of the faults
ERROR_ROW_FRACTION = 2 / 3  # of the rows, before a retry


class CampaignError(StarsError):
    """The job could not be brought to an end."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Strikes as soon as its kind's target exists, `delay_s` after the fault before it or after the run's start.

    `in_retry`: it waits for a `--retry-errors`; the others never hit one. `number` chooses among several targets.
    """

    kind: str
    delay_s: float
    number: int
    in_retry: bool


@dataclass(slots=True)
class Report:
    """Which faults were injected and what came of it, by kind of fault.

    `num_restarts` counts starts of the same command after the job's process had ended; a retry counts as a run.
    """

    faults: Counter[str] = field(default_factory=Counter)
    faults_in_retry: Counter[str] = field(default_factory=Counter)
    survived: Counter[str] = field(default_factory=Counter)
    num_runs: int = 0
    num_restarts: int = 0
    total: Differences = field(default_factory=Differences)


def draw_faults(num_faults: int, seed: int, longest_delay_s: float) -> list[Fault]:
    """The same number of each kind, plus or minus one, in random order; each round of kinds ends in a retry."""
    rng, faults = random.Random(seed), []
    while len(faults) < num_faults:
        kinds = list(FAULTS)
        rng.shuffle(kinds)
        first_in_retry = round(len(kinds) * (1 - RETRY_FRACTION))
        faults += [
            Fault(kind, rng.uniform(0, longest_delay_s), rng.randrange(1 << 30), i >= first_in_retry)
            for i, kind in enumerate(kinds)
        ]
    return faults[:num_faults]


class Campaign:
    """Runs until every fault has struck.

    Args:
        arguments: of `jobs.align`, all but the output.
        folder: for outputs and logs.
        faults: in the order in which they strike.
    """

    def __init__(self, arguments: list[str], folder: Path, faults: list[Fault], console: Console) -> None:
        self.arguments = arguments
        self.folder = folder
        self.waiting = list(faults)
        self.console = console
        self.output: Path | None = None
        self.report = Report()

    def run(self) -> Report:
        """Raises CampaignError when a run cannot be finished."""
        self.folder.mkdir(parents=True, exist_ok=True)
        cluster = LocalCluster()
        try:
            reference = self.folder / "reference"
            self._finish(cluster, reference, [f"output={reference}"], None, [])
            while self.waiting:
                self._disturbed_run(cluster, reference)
        finally:
            cluster.close()
        return self.report

    def _disturbed_run(self, cluster: LocalCluster, reference: Path) -> None:
        """The next fault's run: a new one, or a retry of error rows in the last one's output."""
        fault, output, struck = self.waiting[0], self.output, list[str]()
        is_retry = fault.in_retry and output is not None
        if output is None or not is_retry:
            output = self.output = self.folder / f"run-{self.report.num_runs:03d}"
        else:
            ids = [row["id"] for row in read_rows(reference)]
            chosen = random.Random(fault.number).sample(ids, round(len(ids) * ERROR_ROW_FRACTION))
            inject_error_rows(output, chosen)
        flags = ["--retry-errors"] if is_retry else []
        self._finish(cluster, output, [f"output=slow://{output}", *flags], is_retry, struck)
        differences = compare_outputs(reference, output)
        self._note(differences, struck, is_retry)
        name, faults = " ".join([output.name, *flags]), ", ".join(struck) or "no fault"
        self.console.print(f"{name}: {faults} → {differences}", highlight=False)

    def _note(self, differences: Differences, struck: list[str], is_retry: bool) -> None:
        self.report.num_runs += 1
        self.report.total += differences
        self.report.faults.update(struck)
        if is_retry:
            self.report.faults_in_retry.update(struck)
        if differences.is_clean:
            self.report.survived.update(struck)

    def _finish(
        self, cluster: LocalCluster, output: Path, arguments: list[str], is_retry: bool | None, struck: list[str]
    ) -> None:
        """Start the job, inject faults while it runs, start it again when its process has ended, until it is finished.

        `is_retry` says which faults may strike; None: none may.
        """
        environment = {"RAY_ADDRESS": cluster.address, "RAY_USAGE_STATS_ENABLED": "0"}
        log = self.folder / f"{output.name}.log"
        num_failed_starts = 0
        started_s = fault_after_s = time.monotonic()
        with StartedJob([*self.arguments, *arguments], log, slow_align, environment) as job:
            while job.exit_code != 0:
                if time.monotonic() > started_s + RUN_TIMEOUT_S:
                    raise CampaignError(f"{output.name} did not finish in {RUN_TIMEOUT_S:g} s; see {log}")
                if job.exit_code is not None:
                    num_failed_starts += 1
                    if num_failed_starts > MAX_FAILED_STARTS:
                        raise CampaignError(f"{output.name} ended with {job.exit_code} again and again; see {log}")
                    self.report.num_restarts += 1
                    job.start()
                elif self._strike(cluster, job, output, is_retry, fault_after_s):
                    struck.append(self.waiting.pop(0).kind)
                    fault_after_s, num_failed_starts = time.monotonic(), 0
                time.sleep(POLL_INTERVAL_S)

    def _strike(
        self, cluster: LocalCluster, job: StartedJob, output: Path, is_retry: bool | None, since_s: float
    ) -> bool:
        """Inject the next fault if it is one for this run, its time has come and its target exists."""
        fault = self.waiting[0] if self.waiting else None
        if fault is None or fault.in_retry is not is_retry or time.monotonic() < since_s + fault.delay_s:
            return False
        return FAULTS[fault.kind](Target(cluster, job, output, fault.number))
