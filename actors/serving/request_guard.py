"""What a request must be before anybody reads it: sent to this server by name, by no foreign web page, and as JSON.

A browser sends what any page tells it to send, to loopback too. A page that makes its own name resolve to this machine
(DNS rebinding) is known by its Host; a foreign page that posts without asking first by its Sec-Fetch-Site, or by a
Content-Type that needs no asking. Names are what can be forged like this, so a Host that is an address passes.
"""

import ipaddress
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from actors.serving.api_errors import ApiError

RESPONSE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


class RequestGuard:
    """An ASGI middleware.

    Args:
        app: what is guarded.
        hosts: names that requests may be sent to, `*.example.com` for all below, `*` for any.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str]) -> None:
        self.app = app
        self.hosts = tuple(host.lower().rstrip(".") for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                for name, value in RESPONSE_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            self.check(scope["method"], Headers(scope=scope))
        except ApiError as error:
            await error.response()(scope, receive, send_guarded)
            return
        await self.app(scope, receive, send_guarded)

    def check(self, method: str, headers: Headers) -> None:
        """Raises ApiError 403 or 415."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_served(_name(hosts[0])):
            shown = " and ".join(repr(host[:100]) for host in hosts) or "none"
            raise ApiError(
                403,
                f"this server does not answer to the host {shown}; who runs it lists names in serve.allowed_hosts",
                code="host_not_allowed",
            )
        if headers.get("sec-fetch-site") == "cross-site" and not _is_visit(method, headers):
            raise ApiError(403, "requests from other sites' pages are refused", code="cross_site_request")
        if method == "POST":
            kinds = headers.getlist("content-type")
            if len(kinds) != 1 or kinds[0].partition(";")[0].strip().lower() != "application/json":
                raise ApiError(415, "send Content-Type: application/json", code="unsupported_media_type")

    def _is_served(self, name: str) -> bool:
        return is_local(name) or any(
            host in ("*", name) or (host.startswith("*.") and name.endswith(host[1:])) for host in self.hosts
        )


def is_local(name: str) -> bool:
    """Whether a host is an address, or a name that never leaves the machine."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
    return True


def _name(host: str) -> str:
    """A Host without its port."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0].rstrip(".") if host.count(":") == 1 else host.rstrip(".")


def _is_visit(method: str, headers: Headers) -> bool:
    """Whether a person follows a link: what is loaded becomes a page of its own, which no other can read."""
    is_document = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    return method == "GET" and is_document
