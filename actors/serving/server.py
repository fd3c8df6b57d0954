"""From a config to a server that answers: a cluster, the deployments, and the lines that say where it is."""

import logging
import os
import shlex
import socket
import time
from json import dumps

from ray import serve
from rich.console import Console

from actors.cluster.session import cluster
from actors.serving.deployments import build_application
from actors.serving.server_config import ServeConfig
from pipeline.errors import ConfigError

CALLBACK = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
DAY_S = 86_400


def run_server(config: ServeConfig) -> None:
    """Serve until interrupted.

    Raises:
        StarsError: what went wrong, in one line.
    """
    started_s = time.monotonic()
    check_port(config.serve.host, config.serve.port)
    prepare_environment()
    console = Console()
    console.print(f"loading {config.policy.model or 'fake models'} …", highlight=False, soft_wrap=True)
    with cluster():
        serve.start(http_options={"host": config.serve.host, "port": config.serve.port, "location": "HeadOnly"})
        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        serve.run(build_application(config), name="stars", route_prefix="/")
        console.print(greeting(config, time.monotonic() - started_s), highlight=False, markup=False, soft_wrap=True)
        try:
            while True:
                time.sleep(DAY_S)
        finally:
            serve.shutdown()


def prepare_environment() -> None:
    """What Serve's processes must find in their environment; they inherit ours when the cluster is our own."""
    os.environ.setdefault(CALLBACK, "actors.serving.proxy_errors:middlewares")
    os.environ.setdefault("RAY_SERVE_RUN_SYNC_IN_THREADPOOL", "1")  # pings are answered while a model computes


def check_port(host: str, port: int) -> None:
    """Raises ConfigError where nobody can listen: Serve would try it for a long time."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise ConfigError(f"serve.host, serve.port: cannot listen on {host}:{port}: {error.strerror}") from None


def greeting(config: ServeConfig, seconds: float) -> str:
    """The URL, and a command to try."""
    host = "127.0.0.1" if config.serve.host in ("0.0.0.0", "::") else config.serve.host
    url = f"http://{f'[{host}]' if ':' in host else host}:{config.serve.port}"
    body = {"model": config.served_name, "messages": [{"role": "user", "content": "Tell me about the sea."}]}
    key = f' -H "Authorization: Bearer ${config.serve.api_key_env}"' if config.serve.api_key_env else ""
    curl = f"curl {url}/v1/chat/completions{key} -H 'Content-Type: application/json' -d {shlex.quote(dumps(body))}"
    return f"ready after {seconds:.0f} s: {url}  (a page to look at; base_url={url}/v1 for OpenAI clients)\n{curl}"
