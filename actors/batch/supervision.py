"""Watching over actors: whether one is loading, replacing one that hangs, telling of one that died.

The handle of a coordinator is taken from Ray's core worker: Ray Data holds it, in this process, and gives it to nobody.
"""

import asyncio
import math
import time
from typing import Any

import ray
from ray import ActorID
from ray._private.worker import global_worker

from actors.batch.monitor import Process
from actors.cluster.actor_records import actor_record, is_alive
from actors.cluster.placement import Models
from actors.coordination.timeouts import MAX_REPLACEMENTS
from pipeline.errors import ModelError

POLL_INTERVAL_S = 0.2


class RayActorSupervisor:
    """The supervisor of one Ray actor; see `actors.coordination.timeouts.ActorSupervisor`.

    Args:
        handle: of the actor; it must be restartable, or replacing it ends it for good.
        monitor: handle of the Monitor that carries lines to the driver.
    """

    def __init__(self, handle: Any, monitor: Any) -> None:
        self.handle = handle
        self.monitor = monitor
        self.name: str = actor_record(handle)["Name"]

    async def is_loading(self) -> bool:
        return (await asyncio.to_thread(actor_record, self.handle))["State"] != "ALIVE"

    async def replace(self) -> None:
        before = (await asyncio.to_thread(actor_record, self.handle))["NumRestarts"]
        ray.kill(self.handle, no_restart=False)
        while True:
            record = await asyncio.to_thread(actor_record, self.handle)
            if record["State"] == "DEAD":
                raise ModelError(f"the model {self.name} could not be started again")
            if record["State"] == "ALIVE" and record["NumRestarts"] > before:
                return
            await asyncio.sleep(POLL_INTERVAL_S)

    def tell(self, line: str) -> None:
        self.monitor.tell.remote(line)


class RestartWatch:
    """Notices that model actors died and came back; asked by the driver now and then."""

    def __init__(self, models: Models) -> None:
        self.models = models.with_roles()
        self.num_restarts = [actor_record(handle)["NumRestarts"] for _, handle in self.models]

    def poll(self) -> list[str]:
        """One line for every model that was restarted since the last call."""
        lines = []
        for number, (role, handle) in enumerate(self.models):
            record = actor_record(handle)
            if record["NumRestarts"] > self.num_restarts[number]:
                self.num_restarts[number] = record["NumRestarts"]
                lines.append(f"the {role} model {record['Name']} died and is restarted; its calls are sent again")
        return lines


class CoordinatorWatch:
    """Ends coordinators that hang; asked by the driver now and then.

    Ray Data starts an ended one again and sends it its shards again. One that goes on hanging, while no row is done, is
    ended for good, and with it the run.

    Args:
        monitor: handle of the Monitor that hears of every coordinator each second.
        timeout_s: the longest silence.
    """

    def __init__(self, monitor: Any, timeout_s: float) -> None:
        self.monitor = monitor
        self.timeout_s = timeout_s
        self.heard: dict[Process, tuple[int, float]] = {}  # how often and when last, by this process's clock
        self.num_replacements = 0
        self.num_rows_done = 0

    def poll(self, num_rows_done: int) -> list[str]:
        """One line for every coordinator that was ended since the last call."""
        if num_rows_done > self.num_rows_done:
            self.num_rows_done, self.num_replacements = num_rows_done, 0
        return [self._end(process) for process in self._newly_silent() if is_alive(process.actor_id, process.pid)]

    def _newly_silent(self) -> list[Process]:
        """Processes that have been silent for the timeout, each once."""
        signs, now_s = ray.get(self.monitor.heartbeats.remote()), time.monotonic()
        for process in signs.keys() | self.heard.keys():
            count = signs.get(process, 0)  # another one than before is a sign of life, since the monitor may die too
            if process not in self.heard or self.heard[process][0] != count:
                self.heard[process] = (count, now_s)
        silent = [process for process, (_, heard_s) in self.heard.items() if now_s > heard_s + self.timeout_s]
        self.heard |= {process: (self.heard[process][0], math.inf) for process in silent}
        return silent

    def _end(self, process: Process) -> str:
        self.num_replacements += 1
        is_last = self.num_replacements > MAX_REPLACEMENTS
        handle = global_worker.core_worker.get_actor_handle(ActorID.from_hex(process.actor_id))
        ray.kill(handle, no_restart=is_last)
        end = f"the run ends after {MAX_REPLACEMENTS} replacements" if is_last else "it is killed and started again"
        return (
            f"the coordinator {process.actor_id[:8]} (process {process.pid}) gave no sign of life for "
            f"{self.timeout_s:g} s (coordinator.call_timeout_s); {end}"
        )
