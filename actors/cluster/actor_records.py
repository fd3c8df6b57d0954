"""What Ray itself records of an actor: its state, process, restarts and logs.

Read through Ray's private state module: the public `ray.util.state` needs a dashboard, and whether an actor is loading
or hangs cannot be asked of the actor itself, which answers in neither case.
"""

from pathlib import Path
from typing import Any

from ray._private import state, worker

LOG_LINES = 5


def actor_record(handle: Any) -> dict[str, Any]:
    return state.actors(handle._actor_id.hex())


def is_alive(actor_id: str, pid: int) -> bool:
    """Whether this process is the actor's now."""
    record = state.actors(actor_id)
    return record.get("State") == "ALIVE" and record["Pid"] == pid


def last_log_lines(pid: int) -> str:
    """What a process of this machine wrote last to its error stream, on one line; a process of another machine left
    its log there."""
    node = worker._global_node
    logs = sorted(Path(node.get_logs_dir_path()).glob(f"worker-*-{pid}.err")) if node is not None else []
    lines = [line.strip() for log in logs for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return " | ".join(lines[-LOG_LINES:]) or f"nothing is in the logs of this machine for process {pid}"
