"""A real S3-compatible server on loopback: moto, in an environment of its own (tests/s3_server.txt)."""

import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from pyarrow import fs

from tests.ray_head import free_ports

SERVER = Path(sys.prefix) / "s3-server/bin/moto_server"
BUCKET = "prompts"
START_S = 300.0


@contextmanager
def s3_server(folder):
    """A server with one bucket, until the block ends; gives the environment by which any process finds it."""
    if not SERVER.exists():
        pytest.skip(f"needs an S3 server, which `make test` installs in {SERVER.parents[1]}")
    (port,) = free_ports(1)
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "a-key",
        "AWS_SECRET_ACCESS_KEY": "a-secret",
        "AWS_REGION": "us-east-1",
    }
    with (folder / "s3.log").open("w") as log:
        process = subprocess.Popen([SERVER, "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log)
        try:
            _make_bucket(environment, process)
            yield environment
        finally:
            process.kill()
            process.wait()


def _make_bucket(environment, process):
    filesystem = fs.S3FileSystem(
        access_key=environment["AWS_ACCESS_KEY_ID"],
        secret_key=environment["AWS_SECRET_ACCESS_KEY"],
        endpoint_override=environment["AWS_ENDPOINT_URL"],
        region=environment["AWS_REGION"],
        allow_bucket_creation=True,
    )
    deadline_s = time.monotonic() + START_S
    while True:
        try:
            return filesystem.create_dir(BUCKET)
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline_s
            time.sleep(0.2)
