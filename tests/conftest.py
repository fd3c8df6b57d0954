"""One local Ray cluster for all tests that need one, with two GPUs that exist in name only.

A process that a test starts joins it by `RAY_ADDRESS=ray_cluster.address`; a test that needs more nodes adds them and
takes them away again.
"""

import pytest
import ray
from ray.cluster_utils import Cluster

from tests.embedded import run_embedded

HEAD = {
    "num_cpus": 2,
    "num_gpus": 2,
    "include_dashboard": False,
    "_system_config": {"metrics_report_interval_ms": 1000},
}


@pytest.fixture(scope="session")
def ray_cluster():
    cluster = Cluster(initialize_head=True, head_node_args=HEAD)
    ray.init(cluster.address, log_to_driver=False, logging_level="error")
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="session")
def embedded_output(ray_cluster, tmp_path_factory):
    """The output of the embedded job in fp32: 24 rows of at most 48 tokens. Read it only."""
    output = tmp_path_factory.mktemp("embedded") / "out"
    run_embedded(output, "dataset.rows_per_shard=8")
    return output
