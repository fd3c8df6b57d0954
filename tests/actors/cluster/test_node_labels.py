"""Policies and reward models go to the nodes that cluster.yaml labels for them, or the run is refused."""

import pytest
import ray
from ray._private import state

from actors.cluster.gpu_reservation import reserved
from actors.cluster.gpu_shares import GpuShares
from actors.cluster.placement import start_models, stop_models
from pipeline.config.cluster import ClusterConfig
from pipeline.errors import ConfigError
from tests.configs import fake_config

ROLES = {"policy_nodes": {"stars-role": "policy"}, "reward_nodes": {"stars-role": "reward"}}
NODE = {"num_cpus": 0, "num_gpus": 2, "object_store_memory": 100_000_000}


@pytest.fixture(scope="module")
def labelled_nodes(ray_cluster):
    """The role of each node that has one, by node id."""
    nodes = [ray_cluster.add_node(labels={"stars-role": role}, **NODE) for role in ("policy", "reward")]
    yield {node["NodeID"]: node["Labels"]["stars-role"] for node in ray.nodes() if "stars-role" in node["Labels"]}
    for node in nodes:
        ray_cluster.remove_node(node)


def config_of(**section):
    return fake_config(engine={"slots": 4, "max_model_len": 256}, cluster=section | ROLES)


@pytest.mark.ray
def test_each_role_goes_to_its_own_nodes(labelled_nodes):
    config = config_of(policies_per_cell=2, gpus_per_policy=1, gpus_per_reward=0.5)
    with reserved(config.cluster, config.want_gpus) as reservation:
        models = start_models(config, reservation)
        nodes = {actor["ActorID"]: actor["Address"]["NodeID"] for actor in state.actors().values()}
        roles = [(role, labelled_nodes[nodes[handle._actor_id.hex()]]) for role, handle in models.with_roles()]
        stop_models(models)
    assert roles == [("policy", "policy"), ("policy", "policy"), ("reward", "reward")]


@pytest.mark.ray
def test_more_than_the_labelled_nodes_have_is_refused(labelled_nodes, monkeypatch):
    monkeypatch.setattr("actors.cluster.gpu_reservation.GRACE_S", 1.0)
    config = config_of(policies_per_cell=3, gpus_per_policy=1, gpus_per_reward=1)
    with (
        pytest.raises(ConfigError, match=r"were not to be had in 1 s.*6 of the cluster's 6 GPUs are free") as caught,
        reserved(config.cluster, config.want_gpus),
    ):
        pass
    assert "stars-role: policy" in str(caught.value)


def test_two_roles_share_a_gpu_only_where_both_may_be():
    halves = GpuShares(policy=0.5, reward=0.5)
    assert halves.bundles(ClusterConfig()) == [1.0] and halves.bundle_labels(ClusterConfig()) == [{}]
    apart = ClusterConfig(**ROLES)
    assert halves.bundles(apart) == [0.5, 0.5] and halves.bundle_labels(apart) == list(ROLES.values())
