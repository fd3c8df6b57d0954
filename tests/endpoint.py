"""A real HTTP server of our own that plays somebody else's endpoint: it answers as the test says, slowly if need be."""

import asyncio
import json
import threading
from contextlib import contextmanager

from aiohttp import web

DROPPED = object()  # the connection is closed in the middle of the answer
DRIPS = object()  # the answer comes byte by byte and has no end
DRIP_S = 0.05


class Endpoint:
    """Answers every POST with what `answer(path, body)` gives: JSON, (status, headers, JSON or text), DROPPED, DRIPS,
    or a coroutine of these.

    `requests` are (path, headers, body) in the order they came; `num_now` are under way.
    """

    def __init__(self, answer):
        self.answer = answer
        self.requests = []
        self.num_now = 0
        self.most = 0

    async def handle(self, request):
        body = json.loads(await request.read())
        self.requests.append((request.path, {k.lower(): v for k, v in request.headers.items()}, body))
        self.num_now += 1
        self.most = max(self.most, self.num_now)
        try:
            answer = self.answer(request.path, body)
            return await self.respond(request, await answer if asyncio.iscoroutine(answer) else answer)
        finally:
            self.num_now -= 1

    async def respond(self, request, answer):
        if answer is DROPPED:
            response = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "application/json"})
            await response.prepare(request)
            await response.write(b'{"choices": [{"mess')
            request.transport.close()
            return response
        if answer is DRIPS:
            response = web.StreamResponse(headers={"Content-Length": "1000000", "Content-Type": "application/json"})
            await response.prepare(request)
            while True:
                await response.write(b" ")
                await asyncio.sleep(DRIP_S)
        status, headers, content = answer if isinstance(answer, tuple) else (200, {}, answer)
        text = content if isinstance(content, str) else json.dumps(content)
        return web.Response(text=text, status=status, headers=headers, content_type="application/json")


@contextmanager
def serving(answer):
    """The endpoint and its URL, in a thread of its own."""
    endpoint, started, state = Endpoint(answer), threading.Event(), {}

    async def run():
        app = web.Application(client_max_size=2**24)
        app.router.add_post("/{path:.*}", endpoint.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        state["port"] = site._server.sockets[0].getsockname()[1]
        state["loop"], state["ends"] = asyncio.get_running_loop(), asyncio.Event()
        started.set()
        await state["ends"].wait()
        await runner.cleanup()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    started.wait()
    try:
        yield endpoint, f"http://127.0.0.1:{state['port']}"
    finally:
        state["loop"].call_soon_threadsafe(state["ends"].set)
        thread.join()


def chat(reply, finish_reason="stop", tokens=10):
    """A chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": reply}, "finish_reason": finish_reason}
    usage = tokens and {"prompt_tokens": tokens - 1, "completion_tokens": 1, "total_tokens": tokens}
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [choice],
        "usage": usage,
    }
