"""The main job as a process of its own that can be killed, and started again by the same command."""

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
JOB = "import sys, jobs.chaos.slow_storage; from jobs.align.__main__ import main; sys.exit(main(sys.argv[1:]))"
STOP_WAIT_S = 3.0  # as `ray job stop` waits between its two signals


class Driver:
    """One `jobs.align` on the cluster at `address`; what it prints is appended to `log`."""

    def __init__(self, address: str, arguments: list[str], log: Path) -> None:
        self.address = address
        self.arguments = arguments
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None
        self.num_starts = 0

    def start(self) -> None:
        environment = os.environ | {"RAY_ADDRESS": self.address, "RAY_USAGE_STATS_ENABLED": "0"}
        self.num_starts += 1
        with self.log.open("ab") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-c", JOB, *self.arguments], cwd=ROOT, env=environment, stdout=stream, stderr=stream
            )

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        assert self.process is not None
        return self.process.poll()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End it as `ray job stop` does."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_WAIT_S)
        except subprocess.TimeoutExpired:
            self.kill()
