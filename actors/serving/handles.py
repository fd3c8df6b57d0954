"""How the coordinator survives the death of a deployed model's replica.

A model's cache is keyed by tokens and its draws by row, so a call that was lost is sent again, to the replica that
Serve starts in its place (`actors.coordination.model_calls`); Serve holds it until that one is ready.
"""

import asyncio
import logging

from ray.exceptions import RayActorError

from pipeline.errors import ModelError

logger = logging.getLogger("ray.serve")
PAUSE_S = 0.2  # until Serve, too, has noticed the death


class ReplicaSupervisor:
    """The supervisor of one deployment; see `actors.coordination.model_calls.ActorSupervisor`. Which replica hangs is
    Serve's to find out, by its health checks."""

    def __init__(self, name: str) -> None:
        self.name = name

    def is_death(self, error: Exception) -> bool:
        return isinstance(error, RayActorError)

    async def is_loading(self) -> bool:
        return False

    async def wait_until_loaded(self) -> None:
        await asyncio.sleep(PAUSE_S)

    async def kill(self) -> None:
        raise ModelError(f"the replica of {self.name} gave no answer")

    def report(self, line: str) -> None:
        logger.warning(line)
