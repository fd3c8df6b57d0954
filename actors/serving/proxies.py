"""What Serve already is on a cluster: its applications, and the address at which its proxy answers.

Read through Serve's private client: the public `serve.status` knows no port.
"""

from dataclasses import dataclass, field
from typing import Any

import ray
from ray.serve.context import _get_global_client

from actors.serving.server_config import ServeConfig
from pipeline.errors import ModelError

WILDCARDS = ("0.0.0.0", "::")


@dataclass(frozen=True, slots=True)
class ServeOnCluster:
    """Serve as it was found: the route of every application by its name, and whether anybody can reach them."""

    has_proxy: bool = False
    route_of: dict[str, str | None] = field(default_factory=dict)


def serve_on_cluster() -> ServeOnCluster | None:
    """None where Serve does not run."""
    client = _get_global_client(raise_if_no_controller_running=False)
    if client is None:
        return None
    details = client.get_serve_details()
    routes = {name: application.get("route_prefix") for name, application in details["applications"].items()}
    return ServeOnCluster(details.get("proxy_location") != "Disabled", routes)


def proxy_url(config: ServeConfig) -> str:
    """Where our application answers, without a slash at its end.

    Raises:
        ModelError: no proxy answers.
    """
    client: Any = _get_global_client()
    details = client.get_serve_details()
    options, nodes = client.http_config, [proxy["node_ip"] for proxy in details["proxies"].values()]
    if not nodes:
        raise ModelError("Serve's HTTP proxy did not start")
    own = ray.util.get_node_ip_address()
    return url_of(options.host, options.port, own if own in nodes else nodes[0], own) + config.serve.base_path


def url_of(host: str, port: int, node_ip: str, own_ip: str) -> str:
    """The address of a proxy that listens on `host` of a node, as this machine writes it."""
    if host in WILDCARDS:
        host = ("::1" if ":" in host else "127.0.0.1") if node_ip == own_ip else node_ip
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
