"""`python -m jobs.serve` on fake models and a cluster of its own: what Serve, its proxy and Ray make of it."""

import json
import os
import shutil
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest

from tests.server_process import ServerProcess

pytestmark = pytest.mark.ray
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def folder():
    """Ray's own folder; a short path, since sockets lie in it."""
    folder = tempfile.mkdtemp(prefix="sv-", dir="/tmp")
    yield Path(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def server(folder):
    with ServerProcess(environment=os.environ | {"RAY_TMPDIR": str(folder)}) as server:
        yield server


def ask(server, headers=None, **fields):
    body = json.dumps({"messages": HELLO} | fields).encode()
    headers = {"Content-Type": "application/json"} | (headers or {})
    return urllib.request.urlopen(
        urllib.request.Request(f"{server.url}/v1/chat/completions", body, headers), timeout=60
    )


def test_a_long_request_id_is_cut_and_model_calls_are_not_logged(server, folder):
    logs = folder / "ray" / "session_latest" / "logs" / "serve"

    def size():
        return sum(path.stat().st_size for path in logs.glob("*"))

    with ask(server) as reply:
        assert reply.headers["x-request-id"]
    before = size()
    assert before, "the logs are somewhere else"
    stars = {"segment_size": 1, "max_attempts": 20, "reward_threshold": 100}
    with ask(server, {"X-Request-ID": "R" * 60_000}, max_tokens=24, stars=stars) as reply:
        assert reply.headers["x-request-id"] == "R" * 128
        assert json.load(reply)["stars"]["policy_tokens"] > 400
    deadline_s = time.monotonic() + 60
    while "R" * 128 not in (text := "".join(path.read_text(errors="replace") for path in logs.glob("*"))):
        assert time.monotonic() < deadline_s, "the request is not logged"
        time.sleep(0.1)
    assert size() - before < 10_000
    assert "R" * 129 not in text


def test_no_header_steers_serve(server):
    with ask(server, {"X-Request-Timeout-Seconds": "0.0001", "X-Session-ID": "é"}) as reply:
        assert json.load(reply)["choices"]
