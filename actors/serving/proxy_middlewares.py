"""What stands around Serve's own HTTP proxy, before a request is logged and after a replica has died.

Serve asks for `middlewares` in every proxy (RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH).
"""

import re

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from actors.serving.proxy_errors import ErrorShape

REQUEST_ID = b"x-request-id"
MAX_ID_CHARACTERS = 128
NOT_OF_AN_ID = re.compile(rb"[^A-Za-z0-9_.-]")
OBEYED_BY_SERVE = frozenset(
    {b"x-request-timeout-seconds", b"x-request-disconnect-disabled", b"serve-multiplexed-model-id", b"x-session-id"}
)
OBEYED_PREFIX = b"x-serve-router-"


def middlewares() -> list[Middleware]:
    """What Serve puts around its proxy, the innermost first."""
    return [Middleware(ErrorShape), Middleware(RequestHeaders)]


class RequestHeaders:
    """An ASGI middleware: a request's own id is short and plain, since Serve writes it into every line of its logs;
    headers that steer Serve itself are for nobody outside."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "headers": cleaned(scope["headers"])}
        await self.app(scope, receive, send)


def cleaned(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers that may reach Serve."""
    kept, has_id = [], False
    for name, value in headers:
        plain = name.lower().replace(b"_", b"-")
        if plain in OBEYED_BY_SERVE or plain.startswith(OBEYED_PREFIX):
            continue
        if plain == REQUEST_ID:
            value = NOT_OF_AN_ID.sub(b"", value)[:MAX_ID_CHARACTERS]
            if not value or has_id:
                continue
            name, has_id = REQUEST_ID, True
        kept.append((name, value))
    return kept
