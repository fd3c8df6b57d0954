"""Several Ray nodes on one machine, and the processes on them that a fault may hit."""

import os
from pathlib import Path

import ray
from ray._private import state
from ray.cluster_utils import Cluster

NUM_WORKER_NODES = 2
NODE = {"num_cpus": 1, "object_store_memory": 100_000_000}
HEALTH_CHECK = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 5000,
    "health_check_failure_threshold": 3,
}
CLASS_NAMES = {"policy": "PolicyActor", "reward": "RewardActor", "coordinator": "MapWorker(MapBatches(AlignShards))"}


class LocalCluster:
    """A head node, which no fault hits because it holds Ray's own records, and worker nodes, which faults do hit."""

    def __init__(self) -> None:
        head = NODE | {"include_dashboard": False, "_system_config": HEALTH_CHECK}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        ray.init(self.cluster.address, log_to_driver=False, logging_level="critical")
        self.workers = [self.cluster.add_node(**NODE) for _ in range(NUM_WORKER_NODES)]

    @property
    def address(self) -> str:
        return self.cluster.address

    def pids_of(self, role: str) -> list[int]:
        """Processes of the actors that are alive now, on any node."""
        actors = state.actors().values()
        return [a["Pid"] for a in actors if a["State"] == "ALIVE" and a["ActorClassName"] == CLASS_NAMES[role]]

    def lose_node(self, number: int) -> None:
        """Kill one worker node with all its processes; a new one takes its place."""
        self.cluster.remove_node(self.workers.pop(number % len(self.workers)), allow_graceful=False)
        self.workers.append(self.cluster.add_node(**NODE))

    def close(self) -> None:
        ray.shutdown()
        self.cluster.shutdown()


def writers_under(folder: Path) -> list[int]:
    """Processes that are writing a file under its temporary name."""
    pids = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                files = [os.readlink(file) for file in (process / "fd").iterdir()]
            except OSError:  # it has ended, or is not ours
                continue
            if any(file.startswith(f"{folder}/") and "/.tmp-" in file for file in files):
                pids.append(int(process.name))
    return pids
