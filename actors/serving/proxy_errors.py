"""Serve's proxy answers for a replica that died: in plain words, or by breaking off. This puts OpenAI's shape on it."""

import json

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from actors.serving.api_errors import ApiError

BY_STATUS = {
    408: ApiError(408, "the request took too long", code="timeout"),
    429: ApiError(429, "too many requests; try again", code="rate_limit_exceeded"),
    503: ApiError(503, "the server is not available; try again", code="unavailable"),
}
BROKEN = ApiError(500, "the server stopped while it answered; try again", code="replica_died")
JSON_HEADERS = [(b"content-type", b"application/json"), (b"retry-after", b"5")]


class ErrorShape:
    """An ASGI middleware: replies that our own API gave pass; those that it could not give are given here."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        reply = Reply(send)
        await self.app(scope, receive, reply.pass_on)
        await reply.complete()


class Reply:
    """One reply on its way to the client."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.has_begun = False
        self.is_complete = False
        self.is_stream = False

    async def pass_on(self, message: Message) -> None:
        """Send a message on, unless it begins a plain error of the proxy's own."""
        if self.is_complete:
            return
        if message["type"] == "http.response.start":
            kind = dict(message["headers"]).get(b"content-type", b"")
            if message["status"] in BY_STATUS and not kind.startswith(b"application/json"):
                await self._whole(BY_STATUS[message["status"]])
                return
            self.has_begun, self.is_stream = True, kind.startswith(b"text/event-stream")
        elif message["type"] == "http.response.body":
            self.is_complete = not message.get("more_body", False)
        await self.send(message)

    async def complete(self) -> None:
        """End what the replica could not: a reply not begun, or a stream broken off."""
        if self.is_complete:
            return
        if not self.has_begun:
            await self._whole(BROKEN)
        elif self.is_stream:
            event = b"data: " + json.dumps(BROKEN.body).encode() + b"\n\n"
            await self.send({"type": "http.response.body", "body": event, "more_body": False})

    async def _whole(self, error: ApiError) -> None:
        self.is_complete = True
        await self.send({"type": "http.response.start", "status": error.status, "headers": JSON_HEADERS})
        await self.send({"type": "http.response.body", "body": json.dumps(error.body).encode()})
