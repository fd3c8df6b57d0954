"""The kinds of faults, each a function that strikes if its target exists now, and says whether it did."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jobs.chaos.local_cluster import LocalCluster, writers_under
from jobs.started_job import StartedJob


@dataclass(frozen=True, slots=True)
class Target:
    """What a fault can hit. `number` is the fault's own random number, to choose among several."""

    cluster: LocalCluster
    job: StartedJob
    output: Path
    number: int


def _signal_one(pids: list[int], number: int, sent: signal.Signals) -> bool:
    if not pids:
        return False
    try:
        os.kill(pids[number % len(pids)], sent)
    except ProcessLookupError:
        return False
    return True


def _kill_role(role: str) -> Callable[[Target], bool]:
    return lambda target: _signal_one(target.cluster.pids_of(role), target.number, signal.SIGKILL)


def _hang_role(role: str) -> Callable[[Target], bool]:
    return lambda target: _signal_one(target.cluster.pids_of(role), target.number, signal.SIGSTOP)


def _kill_writer(target: Target) -> bool:
    return _signal_one(writers_under(target.output), target.number, signal.SIGKILL)


def _lose_node(target: Target) -> bool:
    target.cluster.lose_node(target.number)
    return True


def _kill_driver(target: Target) -> bool:
    target.job.kill()
    return True


def _stop_job(target: Target) -> bool:
    target.job.stop()
    return True


FAULTS: dict[str, Callable[[Target], bool]] = {
    "policy killed": _kill_role("policy"),
    "reward model killed": _kill_role("reward"),
    "coordinator killed": _kill_role("coordinator"),
    "policy hangs": _hang_role("policy"),
    "reward model hangs": _hang_role("reward"),
    "coordinator hangs": _hang_role("coordinator"),
    "writer killed in a write": _kill_writer,
    "node lost": _lose_node,
    "driver killed": _kill_driver,
    "job stopped (SIGTERM)": _stop_job,
}
