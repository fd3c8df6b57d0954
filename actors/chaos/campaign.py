"""The campaign: runs of the main job, struck at random times until they finish, compared with one left in peace.

Kinds, times and targets are drawn from the seed; what a process is doing at that time is not, which is the point.
"""

import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from actors.chaos.driver import Driver
from actors.chaos.faults import FAULTS, Target
from actors.chaos.local_cluster import LocalCluster
from actors.chaos.outcome import Outcome, compare
from pipeline.errors import StarsError

POLL_INTERVAL_S = 0.05
MAX_STARTS_IN_PEACE = 3  # a run that fails so often without a new fault has not survived the last one
RUN_TIMEOUT_S = 900.0


class CampaignError(StarsError):
    """The job could not be brought to an end."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Strikes once its kind's target is there, `delay_s` after the fault before it or after the run's start."""

    kind: str
    delay_s: float
    number: int


@dataclass(slots=True)
class Report:
    """What was struck and what came of it; `num_restarts` counts starts of the same command after a driver's end."""

    faults: Counter[str] = field(default_factory=Counter)
    survived: Counter[str] = field(default_factory=Counter)
    num_runs: int = 0
    num_restarts: int = 0
    total: Outcome = field(default_factory=Outcome)


def draw_faults(num_faults: int, seed: int, longest_delay_s: float) -> list[Fault]:
    """As many of each kind as of any other, give or take one, in random order."""
    rng, faults = random.Random(seed), []
    while len(faults) < num_faults:
        kinds = list(FAULTS)
        rng.shuffle(kinds)
        faults += [Fault(kind, rng.uniform(0, longest_delay_s), rng.randrange(1 << 30)) for kind in kinds]
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
        self.report = Report()

    def run(self) -> Report:
        """Raises CampaignError when a run cannot be finished."""
        self.folder.mkdir(parents=True, exist_ok=True)
        cluster = LocalCluster()
        try:
            reference = self.folder / "reference"
            self._finish(cluster, reference, str(reference), [])
            while self.waiting:
                self._disturbed_run(cluster, reference)
        finally:
            cluster.close()
        return self.report

    def _disturbed_run(self, cluster: LocalCluster, reference: Path) -> None:
        output = self.folder / f"run-{self.report.num_runs:03d}"
        struck: list[str] = []
        self._finish(cluster, output, f"fsspec+slow://{output}", struck)
        outcome = compare(reference, output)
        self.report.num_runs += 1
        self.report.total += outcome
        self.report.faults.update(struck)
        if outcome.is_clean:
            self.report.survived.update(struck)
        self.console.print(f"{output.name}: {', '.join(struck) or 'no fault'} → {outcome}", highlight=False)

    def _finish(self, cluster: LocalCluster, output: Path, name: str, struck: list[str]) -> None:
        """Start the job, strike it while it runs, start it again when its driver has ended, until it is finished."""
        driver = Driver(cluster.address, [*self.arguments, f"output={name}"], self.folder / f"{output.name}.log")
        driver.start()
        is_disturbed, num_in_peace = output.name != "reference", 0
        started_s = fault_after_s = time.monotonic()
        while driver.exit_code != 0:
            if time.monotonic() > started_s + RUN_TIMEOUT_S:
                driver.kill()
                raise CampaignError(f"{output.name} did not finish in {RUN_TIMEOUT_S:g} s; see {driver.log}")
            if driver.exit_code is not None:
                num_in_peace += 1
                if num_in_peace > MAX_STARTS_IN_PEACE:
                    raise CampaignError(
                        f"{output.name} ended with {driver.exit_code} again and again; see {driver.log}"
                    )
                self.report.num_restarts += 1
                driver.start()
            elif is_disturbed and self._strike(cluster, driver, output, fault_after_s):
                struck.append(self.waiting.pop(0).kind)
                fault_after_s, num_in_peace = time.monotonic(), 0
            time.sleep(POLL_INTERVAL_S)

    def _strike(self, cluster: LocalCluster, driver: Driver, output: Path, since_s: float) -> bool:
        """Strike with the next fault if its time has come and its target is there."""
        if not self.waiting or time.monotonic() < since_s + self.waiting[0].delay_s:
            return False
        fault = self.waiting[0]
        return FAULTS[fault.kind](Target(cluster, driver, output, fault.number))
