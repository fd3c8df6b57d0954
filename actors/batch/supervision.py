"""Supervision of a run's actors: models that die or hang are started again, coordinators that hang are ended.

`supervised` runs it beside the work, in a loop of its own: nothing that shows progress can end it, and an error of its
own ends the run.

The handle of a coordinator is taken from Ray's core worker: Ray Data holds it, in this process, and gives it to nobody.
"""

import asyncio
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any

import ray
from ray import ActorID
from ray._private.worker import global_worker
from ray.exceptions import RayActorError

from actors.batch.monitor import Process
from actors.cluster.actor_records import actor_record, is_alive, last_log_lines
from actors.cluster.placement import Models
from pipeline.errors import ModelError
from pipeline.protocol import MAX_DEATHS

POLL_INTERVAL_S = 0.2
SUPERVISION_INTERVAL_S = 1.0


class RayActorSupervisor:
    """The supervisor of one Ray actor; see `actors.coordination.model_calls.ActorSupervisor`.

    Args:
        handle: of the actor; it must be restartable.
        monitor: handle of the Monitor that carries lines to the driver.
    """

    def __init__(self, handle: Any, monitor: Any) -> None:
        self.handle = handle
        self.monitor = monitor
        self.name: str = actor_record(handle)["Name"]

    def is_death(self, error: Exception) -> bool:
        return isinstance(error, RayActorError)

    async def is_loading(self) -> bool:
        return (await self._record())["State"] != "ALIVE"

    async def wait_until_loaded(self) -> None:
        """Raises ModelError when the actor is gone for good, or dies again and again before it has loaded."""
        first = record = await self._record()
        last_pid = record["Pid"]
        while record["State"] != "ALIVE":
            last_pid = record["Pid"] or last_pid
            if record["State"] == "DEAD" or record["NumRestarts"] - first["NumRestarts"] >= MAX_DEATHS:
                raise ModelError(
                    f"the model {self.name} died and could not be started again: {last_log_lines(last_pid)}"
                )
            await asyncio.sleep(POLL_INTERVAL_S)
            record = await self._record()

    async def kill(self) -> None:
        before = (await self._record())["NumRestarts"]
        ray.kill(self.handle, no_restart=False)
        while (record := await self._record())["State"] == "ALIVE" and record["NumRestarts"] == before:
            await asyncio.sleep(POLL_INTERVAL_S)

    def report(self, line: str) -> None:
        self.monitor.report.remote(line)

    async def _record(self) -> dict[str, Any]:
        return await asyncio.to_thread(actor_record, self.handle)


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
        is_last = self.num_replacements > MAX_DEATHS
        handle = global_worker.core_worker.get_actor_handle(ActorID.from_hex(process.actor_id))
        ray.kill(handle, no_restart=is_last)
        end = f"the run ends after {MAX_DEATHS} replacements" if is_last else "it is killed and started again"
        return (
            f"the coordinator {process.actor_id[:8]} (process {process.pid}) gave no sign of life for "
            f"{self.timeout_s:g} s (coordinator.call_timeout_s); {end}"
        )


def supervised(work: Callable[[], None], poll: Callable[[], None]) -> None:
    """Do the work in a thread and poll beside it, once a second and once more at its end.

    Whatever either raises is raised here at once. A thread that is left behind by that ends with the cluster, or with
    this process.
    """
    ended: Future[None] = Future()

    def run() -> None:
        try:
            work()
        except BaseException as error:
            ended.set_exception(error)
        else:
            ended.set_result(None)

    threading.Thread(target=run, name="dataset graph", daemon=True).start()
    while not ended.done():
        wait([ended], timeout=SUPERVISION_INTERVAL_S)
        poll()
    ended.result()
