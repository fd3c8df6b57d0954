"""The ingress deployment's class: one coordinator, and the HTTP interface over it."""

from typing import Any

from fastapi import FastAPI

from actors.serving.api import Server, build_api
from actors.serving.server_config import ServeConfig


class Ingress:
    """Made by Serve in the event loop that will run it.

    Args:
        config: with `engine.slots` and `engine.max_model_len` set.
        policies: deployment handles of the policies.
        rewards: deployment handles of the reward models.
        api_key_digests: see `actors.serving.api.Server`.
    """

    def __init__(
        self, config: ServeConfig, policies: list[Any], rewards: list[Any], api_key_digests: tuple[bytes, ...]
    ) -> None:
        self.server = Server(config, policies, rewards, api_key_digests)

    def __serve_build_asgi_app__(self) -> FastAPI:
        return build_api(self.server)
