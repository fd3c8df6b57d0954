"""What Ray itself records of an actor: its state, process and restarts.

Read through Ray's private state module: the public `ray.util.state` needs a dashboard, and whether an actor is loading
or hangs cannot be asked of the actor itself, which answers in neither case.
"""

from typing import Any

from ray._private import state


def actor_record(handle: Any) -> dict[str, Any]:
    return state.actors(handle._actor_id.hex())


def is_alive(actor_id: str, pid: int) -> bool:
    """Whether this process is the actor's now."""
    record = state.actors(actor_id)
    return record.get("State") == "ALIVE" and record["Pid"] == pid
