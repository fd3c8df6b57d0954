"""One local Ray cluster for all tests that need one, with two GPUs that exist in name only."""

import pytest
import ray


@pytest.fixture(scope="session")
def ray_cluster():
    ray.init(
        "local",
        num_cpus=2,
        num_gpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        _system_config={"metrics_report_interval_ms": 1000},
    )
    yield
    ray.shutdown()
