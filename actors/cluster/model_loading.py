"""Waiting for models to load: a constructor that fails ends the run in one line, everything else is waited for.

A model that is lost on the way (its node died) is started again by Ray, MAX_DEATHS times at most; one that has loaded
and does not answer a ping for `coordinator.call_timeout_s` is killed, so that Ray starts it again.
"""

import time
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from actors.cluster.actor_records import actor_record, last_log_lines
from pipeline.errors import ModelError
from pipeline.protocol import MAX_DEATHS

CONTROL = "control"  # the concurrency group in which `ping` answers while a model computes
LOAD_REPORT_S = 30.0
POLL_INTERVAL_S = 1.0


@dataclass(slots=True)
class LoadingModel:
    """A model actor whose constructor may still run. `model` is what a person calls it."""

    role: str
    model: str
    handle: Any
    loaded_at_s: float | None = None
    num_restarts: int = 0


def ping(handle: Any) -> Any:
    """A reference that resolves once the model is loaded, also while it computes."""
    return handle.ping.options(concurrency_group=CONTROL).remote()


def wait_until_loaded(models: list[LoadingModel], timeout_s: float) -> None:
    """Wait, and tell a person who waits too what for.

    Raises:
        ModelError: a model could not be loaded.
    """
    waiting = {ping(model.handle): model for model in models}
    started_s = reported_s = time.monotonic()
    while waiting:
        ready, _ = ray.wait(list(waiting), num_returns=1, timeout=POLL_INTERVAL_S)
        for reference in ready:
            model = waiting.pop(reference)
            if not _has_answered(model, reference):
                waiting[ping(model.handle)] = model
        for model in waiting.values():
            _end_silence(model, timeout_s)
        if waiting and time.monotonic() > reported_s + LOAD_REPORT_S:
            reported_s = time.monotonic()
            names = " and ".join(model.role for model in waiting.values())
            print(f"still waiting for the {names} model to load ({reported_s - started_s:.0f} s)", flush=True)


def _has_answered(model: LoadingModel, reference: Any) -> bool:
    """Whether it is there; False if it was lost and is being started again."""
    try:
        ray.get(reference)
    except (RayActorError, RayTaskError) as error:
        record = actor_record(model.handle)
        failed = f"the {model.role} model {model.model!r} could not be loaded: "
        if record["State"] == "DEAD":
            raise ModelError(failed + last_line(error)) from error
        if record["NumRestarts"] >= MAX_DEATHS:
            log = last_log_lines(record["Pid"])
            raise ModelError(
                f"{failed}its process died {record['NumRestarts']} times; its last words: {log}"
            ) from error
        time.sleep(POLL_INTERVAL_S)
        return False
    return True


def _end_silence(model: LoadingModel, timeout_s: float) -> None:
    """Kill a model that has loaded, but does not answer."""
    record = actor_record(model.handle)
    is_loaded, restarts = record["State"] == "ALIVE", record["NumRestarts"]
    if not is_loaded or model.loaded_at_s is None or restarts != model.num_restarts:
        model.loaded_at_s = time.monotonic() if is_loaded else None
        model.num_restarts = restarts
    elif time.monotonic() > model.loaded_at_s + timeout_s:
        print(f"the {model.role} model {record['Name']} has loaded but gave no answer for {timeout_s:g} s "
              "(coordinator.call_timeout_s); it is killed and started again", flush=True)  # fmt: skip
        ray.kill(model.handle, no_restart=False)
        model.loaded_at_s = None


def last_line(error: BaseException) -> str:
    """The line of a remote traceback that says what happened: its last, without the frames before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
