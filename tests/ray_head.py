"""A Ray head node started by hand, as a person does it, and the job commands against it.

It lives on loopback with ports and a folder of its own, and ends by the ids of its processes: `ray stop` would end
every Ray process of the user. Head and commands share one token, as they must (docs/cluster.md).
"""

import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent
RAY = [sys.executable, "-m", "ray.scripts.scripts"]
START_S = 300.0
POLL_S = 0.2


class RayHead:
    def __init__(self, environment, ports):
        self.environment = environment
        self.gcs_address = f"127.0.0.1:{ports[0]}"
        self.address = f"http://127.0.0.1:{ports[1]}"

    def ray(self, *arguments):
        """One `ray …` command from the repository's root."""
        command = [*RAY, *arguments]
        return subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False)

    def submit(self, name, *job):
        """`ray job submit --working-dir . -- python -m …`; returns when the job has ended."""
        options = ["--address", self.address, "--submission-id", name, "--working-dir", "."]
        return self.ray("job", "submit", *options, "--", "python", "-m", *job)

    def stop(self, name):
        return self.ray("job", "stop", "--address", self.address, name)

    def details(self, name):
        """What the jobs API says of a job: `status`, `driver_exit_code`, …"""
        return json.loads(self._get(f"/api/jobs/{name}"))

    def logs(self, name):
        return json.loads(self._get(f"/api/jobs/{name}/logs"))["logs"]

    def is_up(self):
        try:
            return bool(self._get("/api/version"))
        except (urllib.error.URLError, ConnectionError):
            return False

    def _get(self, path):
        headers = {"Authorization": f"Bearer {self.environment['RAY_AUTH_TOKEN']}"}
        with urllib.request.urlopen(urllib.request.Request(self.address + path, headers=headers), timeout=10) as answer:
            return answer.read()


@contextmanager
def ray_head(num_cpus=2):
    """A head node that accepts jobs, until the block ends."""
    ports = free_ports(4)
    environment = os.environ | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
        "RAY_USAGE_STATS_ENABLED": "0",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    names = ("port", "dashboard-port", "dashboard-agent-listen-port", "ray-client-server-port")
    options = [f"--{name}={port}" for name, port in zip(names, ports, strict=True)]
    with tempfile.TemporaryDirectory(prefix="head-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        start = ["start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--num-cpus={num_cpus}", *options]
        with (Path(folder) / "head.log").open("w+") as log:
            process = subprocess.Popen(
                [*RAY, *start, f"--temp-dir={folder}/ray"], env=environment, stdout=log, stderr=log
            )
            try:
                head = RayHead(environment, ports)
                wait_until(head.is_up, START_S, process, log)
                yield head
            finally:
                everyone = [*psutil.Process(process.pid).children(recursive=True), process]
                for one in everyone:
                    one.kill()
                process.wait()
                psutil.wait_procs(everyone[:-1])


def wait_until(condition, seconds, process, log):
    deadline_s = time.monotonic() + seconds
    while not condition():
        log.seek(0)
        assert process.poll() is None and time.monotonic() < deadline_s, log.read()
        time.sleep(POLL_S)


def free_ports(count):
    """Ports below 10000, which Ray leaves alone when it chooses its workers' own."""
    ports = []
    for port in range(6500 + os.getpid() % 2000, 10_000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                ports.append(port)
        if len(ports) == count:
            return ports
    raise RuntimeError("no free port")
