"""The HTTP interface on fake models in threads, behind a real HTTP server, without Ray."""

import asyncio
import socket
import threading
from contextlib import contextmanager

import uvicorn

from actors.engines.fakes import FakePolicy
from actors.serving.api import Server, build_api
from actors.serving.server_config import ServeConfig
from tests.configs import fake_config
from tests.handles import LocalHandle, LocalMethod, reward_of


def serve_config(**sections):
    strategy = {"name": "stars", "segment_size": 8, "reward_threshold": 0.5, "beta": 0.05, "alpha": 1.0}
    engine = {"slots": 8, "max_model_len": 256}
    tree = fake_config().model_dump() | {"engine": engine, "strategy": strategy}
    serve = {"allow": "all"} | sections.pop("serve", {})
    return ServeConfig.model_validate(tree | sections | {"serve": serve})


class PingingHandle(LocalHandle):
    def __init__(self, engine):
        super().__init__(engine)
        self.ping = LocalMethod(lambda: "here", self.executor)


@contextmanager
def http_server(config, api_key_digests=(), send_buffer_bytes=None):
    """The base URL, and the Server behind it; what a client does not read waits in a buffer of so many bytes."""
    handles = [
        PingingHandle(FakePolicy(config.policy, config.engine)),
        PingingHandle(reward_of(config)),
    ]
    sock = socket.create_server(("127.0.0.1", 0))
    if send_buffer_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
    started, state = threading.Event(), {}

    async def run():
        state["server"] = Server(config, handles[:1], handles[1:], api_key_digests)
        state["uvicorn"] = uvicorn.Server(
            uvicorn.Config(build_api(state["server"]), log_level="error", lifespan="off", ws="none")
        )
        started.set()
        await state["uvicorn"].serve([sock])

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    started.wait()
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}", state["server"]
    finally:
        state["uvicorn"].should_exit = True
        thread.join()
        for handle in handles:
            handle.close()
        sock.close()
