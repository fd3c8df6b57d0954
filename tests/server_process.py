"""`python -m jobs.serve` as a process of its own, on fake models unless told otherwise."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import psutil

START_S = 240
FAKES = (
    "policy.backend=fake",
    "reward.backend=fake",
    "strategy={name: stars, segment_size: 8, reward_threshold: 0.5, beta: 0.05, alpha: 1.0}",
    "engine={slots: 8, max_model_len: 256}",
    "serve.allow=all",
)


def free_port():
    """A port that neither Ray's workers (10002 to 19999) nor the system's clients are given."""
    while True:
        with socket.socket() as probe:
            port = random.randrange(20_000, 32_000)
            if probe.connect_ex(("127.0.0.1", port)):
                return port


class ServerProcess:
    """A started server: its URL, its process, everything it printed."""

    def __init__(self, *overrides, config=FAKES, environment=None):
        self.port = free_port()
        command = [sys.executable, "-m", "jobs.serve", *config, f"serve.port={self.port}", *overrides]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        self.lines = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        with self.process.stdout as stdout:
            self.lines += iter(stdout.readline, "")

    @property
    def output(self):
        return "".join(self.lines)

    def wait_until_ready(self):
        deadline_s = time.monotonic() + START_S
        while not (found := re.search(r"ready after \d+ s: (http://\S+)", self.output)):
            assert self.process.poll() is None and time.monotonic() < deadline_s, self.output
            time.sleep(0.1)
        self.url = found.group(1)
        return self

    def processes(self, title):
        """Processes of its own cluster whose title holds these words."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if title in " ".join(child.cmdline())]

    def stop(self, number=signal.SIGINT):
        """Its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(120)
        self.reader.join()
        return code

    def __enter__(self):
        try:
            return self.wait_until_ready()
        except BaseException:
            self.stop(signal.SIGKILL)
            raise

    def __exit__(self, *_):
        self.stop()


def joined(head):
    """The environment of a process that joins the cluster of a `ray_head`."""
    return os.environ | head.environment | {"RAY_ADDRESS": head.gcs_address}
