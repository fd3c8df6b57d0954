"""A server on a cluster where Serve answers for others already: it leaves them as they are."""

import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from tests.ray_head import ROOT, ray_head
from tests.server_process import ServerProcess, free_port, joined

pytestmark = pytest.mark.ray

START_OTHER = """
import sys
from ray import serve
from tests.actors.serving.other_app import app
serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
serve.run(app, name="other", route_prefix="/other")
"""


def get(url):
    with urllib.request.urlopen(url, timeout=20) as reply:
        return reply.read().decode()


def run_python(head, code, *arguments):
    """A driver on the head's cluster that ends at once."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    ended = subprocess.run(command, cwd=ROOT, env=joined(head), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def head():
    with ray_head() as head:
        yield head


@pytest.fixture
def other(head):
    """The URL of another team's application."""
    port = free_port()
    run_python(head, START_OTHER, port)
    yield f"http://127.0.0.1:{port}/other"
    run_python(head, "from ray import serve; serve.shutdown()")


def test_where_nobody_serves_serve_is_started_and_shut_down_again(head):
    with ServerProcess(environment=joined(head)) as server:
        assert server.url == f"http://127.0.0.1:{server.port}" and '"ok"' in get(server.url + "/health")
    status = run_python(head, "import ray; from ray import serve; ray.init(); print(serve.status().proxies)")
    assert status.strip() == "{}"


def test_a_stopped_server_leaves_the_applications_of_others(head, other):
    assert get(other) == "I am the other app"
    with ServerProcess(environment=joined(head)) as server:
        assert server.url == other.removesuffix("/other"), "the URL of a proxy that is not there"
        assert "serve.port are not used" in server.output
        assert '"ok"' in get(server.url + "/health")
        twin = ServerProcess(environment=joined(head))
        assert twin.process.wait(120) == 2 and "serve.name" in twin.output, twin.output
        taken = ServerProcess("serve.name=second", environment=joined(head))
        assert taken.process.wait(120) == 2 and "serve.route_prefix" in taken.output, taken.output
        second = ("serve.name=second", "serve.route_prefix=/second")
        with ServerProcess(*second, environment=joined(head)) as beside:
            assert beside.url == server.url + "/second" and '"ok"' in get(beside.url + "/health")
    assert get(other) == "I am the other app"
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(server.url + "/health")


def test_serve_without_a_proxy_is_refused_in_a_line(head):
    run_python(head, "from ray import serve; serve.start(proxy_location='Disabled')")
    server = ServerProcess(environment=joined(head))
    assert server.process.wait(120) == 2, server.output
    assert "HTTP proxy" in server.output and "Traceback" not in server.output
