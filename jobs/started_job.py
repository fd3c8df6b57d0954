"""The main job as a process of its own, to be watched, killed and started again with the same command."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

import jobs.align
from pipeline.errors import StarsError

ROOT = Path(__file__).parents[1]
STOP_WAIT_S = 3.0  # as `ray job stop` waits between its two signals


class JobFailed(StarsError):
    """A started job did not end with exit code 0."""


class StartedJob:
    """`python -m MODULE ARGUMENTS` from the repository's root; a context manager starts it, and kills it at the end.

    Args:
        arguments: of the command line.
        log: what the job prints is appended to this file.
        module: `jobs.align`, or a module that runs it in another way.
        environment: added to that of this process.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        log: Path,
        module: ModuleType = jobs.align,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.command = [sys.executable, "-m", module.__name__, *arguments]
        self.log = log
        self.environment = {**os.environ, **(environment or {})}
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "StartedJob":
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, again if it has ended."""
        with self.log.open("ab") as stream:
            self.process = subprocess.Popen(self.command, cwd=ROOT, env=self.environment, stdout=stream, stderr=stream)

    @property
    def exit_code(self) -> int | None:
        """None while it runs; minus the signal that killed it."""
        return self._process.poll()

    @property
    def pid(self) -> int:
        return self._process.pid

    def finish(self) -> None:
        """Wait until it has ended.

        Raises:
            JobFailed: it ended with another exit code than 0.
        """
        exit_code = self._process.wait()
        if exit_code:
            raise JobFailed(f"jobs.align ended with {exit_code}; see {self.log}")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End it as `ray job stop` does: SIGTERM, then SIGKILL."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_WAIT_S)
        except subprocess.TimeoutExpired:
            self.kill()

    @property
    def _process(self) -> "subprocess.Popen[bytes]":
        assert self.process is not None, "start() comes first"
        return self.process
