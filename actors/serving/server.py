"""From a config to a server that answers: a cluster, the deployments, and the URL of the proxy in front of them.

Invariant: what others run on the cluster stays as it was. An application of theirs is never replaced, and Serve itself
is shut down only where it was started here and holds nobody else's application.
"""

import logging
import os
import shlex
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from json import dumps
from typing import Any

import ray
from ray import serve

from actors.cluster.session import cluster
from actors.serving.api_keys import read_digests
from actors.serving.deployments import build_application
from actors.serving.proxies import ServeOnCluster, proxy_url, serve_on_cluster
from actors.serving.server_config import ServeConfig
from pipeline.errors import ConfigError

CALLBACK = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that answers at `url`. `notices` are for the person who started it."""

    url: str
    ingress: Any
    notices: tuple[str, ...] = ()


@contextmanager
def running_server(config: ServeConfig) -> Iterator[RunningServer]:
    """Deploy, and take down at the end of the block what was deployed.

    Raises:
        StarsError: what went wrong, in one line.
    """
    is_joined = ray.is_initialized() or bool(os.environ.get("RAY_ADDRESS"))
    if not is_joined:
        check_port(config.serve.host, config.serve.port)
    read_digests(config.serve.api_key_env)  # what is wrong with it is known before anything is loaded
    prepare_environment()
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    with cluster():
        found = serve_on_cluster()
        check_names(config, found)
        application = build_application(config)
        if found is None:
            start_serve(config)
        try:
            ingress = serve.run(application, name=config.serve.name, route_prefix=config.serve.route_prefix)
            yield RunningServer(proxy_url(config), ingress, _notices(config, found))
        finally:
            _take_down(config.serve.name, is_ours=found is None)


def start_serve(config: ServeConfig) -> None:
    """Serve itself, with one proxy; it answers where the config says."""
    serve.start(proxy_location="HeadOnly", http_options={"host": config.serve.host, "port": config.serve.port})
    logging.getLogger("ray.serve").setLevel(logging.ERROR)  # starting Serve sets it anew


def prepare_environment() -> None:
    """What Serve's processes must find in their environment; they inherit ours when the cluster is our own."""
    os.environ.setdefault(CALLBACK, "actors.serving.proxy_middlewares:middlewares")
    os.environ.setdefault("RAY_SERVE_RUN_SYNC_IN_THREADPOOL", "1")  # pings are answered while a model computes


def check_names(config: ServeConfig, found: ServeOnCluster | None) -> None:
    """Raises ConfigError where an application has our name or our place already, or where nobody could reach ours."""
    if found is None:
        return
    if not found.has_proxy:
        raise ConfigError("Serve runs on this cluster without an HTTP proxy (proxy_location: Disabled)")
    if config.serve.name in found.route_of:
        raise ConfigError(
            f"serve.name: this cluster serves an application {config.serve.name!r} already; give this one another name"
        )
    for name, route in found.route_of.items():
        if route == config.serve.route_prefix:
            raise ConfigError(
                f"serve.route_prefix: {route!r} belongs to the application {name!r} of this cluster; choose another"
            )


def check_port(host: str, port: int) -> None:
    """Raises ConfigError where nobody can listen: Serve would try it for a long time."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise ConfigError(f"serve.host, serve.port: cannot listen on {host}:{port}: {error.strerror}") from None


def greeting(config: ServeConfig, url: str, seconds: float) -> str:
    """The URL, and a command to try."""
    body = {"model": config.served_name, "messages": [{"role": "user", "content": "Tell me about the sea."}]}
    key = f' -H "Authorization: Bearer ${config.serve.api_key_env}"' if config.serve.api_key_env else ""
    curl = f"curl {url}/v1/chat/completions{key} -H 'Content-Type: application/json' -d {shlex.quote(dumps(body))}"
    return f"ready after {seconds:.0f} s: {url}  (a page to look at; base_url={url}/v1 for OpenAI clients)\n{curl}"


def _notices(config: ServeConfig, found: ServeOnCluster | None) -> tuple[str, ...]:
    if found is None:
        return ()
    return ("Serve was running on this cluster: its own proxy answers, and serve.host and serve.port are not used",)


def _take_down(name: str, is_ours: bool) -> None:
    if name in (serve_on_cluster() or ServeOnCluster()).route_of:
        serve.delete(name)
    if is_ours and not (serve_on_cluster() or ServeOnCluster()).route_of:
        serve.shutdown()
