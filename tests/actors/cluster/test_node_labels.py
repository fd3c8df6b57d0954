"""Policies and reward models go to the nodes that cluster.yaml labels for them, or the run is refused."""

import json
import subprocess
import sys

import pytest

from actors.cluster.gpu_shares import GpuShares
from pipeline.config.cluster import ClusterConfig
from tests.ray_head import ROOT

ROLES = {"policy_nodes": {"stars-role": "policy"}, "reward_nodes": {"stars-role": "reward"}}
ON_TWO_LABELLED_NODES = """
import json, sys
import ray
from ray._private import state
from ray.cluster_utils import Cluster
from actors.cluster.placement import start_models
from actors.cluster.gpu_reservation import reserved
from pipeline.errors import ConfigError
from tests.configs import fake_config

node = {"object_store_memory": 100_000_000, "num_gpus": 2}
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
ray.init(cluster.address, log_to_driver=False, logging_level="critical")
for role in ("policy", "reward"):
    cluster.add_node(num_cpus=0, labels={"stars-role": role}, **node)
labels = {node["NodeID"]: node["Labels"].get("stars-role") for node in ray.nodes()}

def roles_of(section):
    config = fake_config(engine={"slots": 4, "max_model_len": 256}, cluster=section)
    with reserved(config.cluster, config.want_gpus) as reservation:
        models = start_models(config, reservation)
        nodes = {a["ActorID"]: a["Address"]["NodeID"] for a in state.actors().values()}
        return [[role, labels[nodes[handle._actor_id.hex()]]] for role, handle in models.with_roles()]

try:
    print(json.dumps(roles_of(json.loads(sys.argv[1]))))
except ConfigError as error:
    print(json.dumps(str(error)))
ray.shutdown()
cluster.shutdown()
"""


def placed(**section):
    command = [sys.executable, "-c", ON_TWO_LABELLED_NODES, json.dumps(section | ROLES)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(ended.stdout.splitlines()[-1])


@pytest.mark.ray
def test_each_role_goes_to_its_own_nodes():
    placed_roles = placed(policies_per_cell=2, gpus_per_policy=1, gpus_per_reward=0.5)
    assert placed_roles == [["policy", "policy"], ["policy", "policy"], ["reward", "reward"]]


@pytest.mark.ray
def test_more_than_the_labelled_nodes_have_is_refused():
    refusal = placed(policies_per_cell=3, gpus_per_policy=1, gpus_per_reward=1)
    assert "were not to be had in 10 s" in refusal and "stars-role: policy" in refusal


def test_two_roles_share_a_gpu_only_where_both_may_be():
    halves = GpuShares(policy=0.5, reward=0.5)
    assert halves.bundles(ClusterConfig()) == [1.0] and halves.bundle_labels(ClusterConfig()) == [{}]
    apart = ClusterConfig(**ROLES)
    assert halves.bundles(apart) == [0.5, 0.5] and halves.bundle_labels(apart) == list(ROLES.values())
