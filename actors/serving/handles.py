"""Handles of deployed models, whose calls survive the death of a replica.

A model's cache is keyed by tokens and its draws by row, so a call that was lost is sent again, to the replica that
Serve starts in its place; Serve holds it until that one is ready. `coordinator.call_timeout_s` bounds the whole.
"""

import asyncio
import logging
from typing import Any

from ray.exceptions import RayActorError

logger = logging.getLogger("ray.serve")
PAUSE_S = 0.2  # until Serve, too, has noticed the death


class ResendingHandle:
    """Wraps the deployment handle of a policy or a reward model."""

    def __init__(self, handle: Any) -> None:
        self.propose = ResendingMethod(handle, "propose")
        self.score = ResendingMethod(handle, "score")
        self.ping = ResendingMethod(handle, "ping")


class ResendingMethod:
    def __init__(self, handle: Any, name: str) -> None:
        self.handle = handle
        self.name = name

    async def remote(self, *arguments: Any) -> Any:
        """The answer, from whichever replica lives to give it."""
        while True:
            try:
                return await getattr(self.handle, self.name).remote(*arguments)
            except RayActorError as error:
                logger.warning("%s is sent again: %s", self.name, type(error).__name__)
                await asyncio.sleep(PAUSE_S)
