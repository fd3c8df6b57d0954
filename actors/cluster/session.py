"""The Ray cluster of this process: the one it is on already, that of RAY_ADDRESS, or a small one of its own."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import ray

MIN_CPUS = 2  # reading and writing need one each; models and the coordinator ask for none


@contextmanager
def cluster() -> Iterator[None]:
    """The cluster of RAY_ADDRESS, the one this process is on already, or a small one of our own."""
    if ray.is_initialized():
        yield
        return
    join_cluster()
    try:
        yield
    finally:
        ray.shutdown()


def join_cluster() -> None:
    """The cluster of this process, that of RAY_ADDRESS, or a small one of our own, as long as this process."""
    if ray.is_initialized():
        return
    with _kept_signal_handlers():
        if os.environ.get("RAY_ADDRESS"):
            ray.init(logging_level="warning")
        else:
            _start_own_cluster()


@contextmanager
def _kept_signal_handlers() -> Iterator[None]:
    """`ray.init` takes SIGTERM for itself; how a process ends is its own business."""
    is_main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM) if is_main}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _start_own_cluster() -> None:
    """A cluster as long as this process. What workers print goes to Ray's session folder, not between our lines."""
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)  # tells every time that tokens are on
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # the first error ends the run and is told
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # else a known false alarm per actor pool (ray#53727)
    ray.init(
        "local",
        num_cpus=max(MIN_CPUS, _usable_cpus()),
        include_dashboard=False,
        log_to_driver=False,
        logging_level="warning",
    )


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
