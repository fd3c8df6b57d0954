"""cluster.yaml by Ray's own validation, KubeRay manifests by their structure; all agree with the code and the pins."""

import copy
import importlib
import re
import shlex
from pathlib import Path

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from jobs.align.__main__ import _parser
from pipeline.config.loading import load_config

ROOT = Path(__file__).parent.parent
PINS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
LAUNCHER = yaml.safe_load((ROOT / "cluster.yaml").read_text())
JOB = yaml.safe_load((ROOT / "deploy/rayjob.yaml").read_text())
SERVICE = yaml.safe_load((ROOT / "deploy/rayservice.yaml").read_text())
CLUSTERS = {"rayjob": JOB["spec"]["rayClusterSpec"], "rayservice": SERVICE["spec"]["rayClusterConfig"]}
# From KubeRay's RayCluster, RayJob and RayService (ray.io/v1); a key that is none of these would be dropped in silence.
CLUSTER_KEYS = {"rayVersion", "enableInTreeAutoscaling", "autoscalerOptions", "headGroupSpec", "workerGroupSpecs"}
GROUP_KEYS = {"groupName", "minReplicas", "replicas", "maxReplicas", "rayStartParams", "labels", "template"}
JOB_KEYS = {
    "entrypoint",
    "shutdownAfterJobFinishes",
    "ttlSecondsAfterFinished",
    "backoffLimit",
    "submissionMode",
    "rayClusterSpec",
}
CONTAINER_KEYS = {"name", "image", "workingDir", "envFrom", "ports", "resources"}
ROLES = {"cpu", "policy", "reward"}


def test_ray_accepts_the_cluster_file():
    validate_config(prepare_config(copy.deepcopy(LAUNCHER)))


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda c: c.update(idle_timeout=10), "idle_timeout"),
        (lambda c: c["available_node_types"]["policy"].update(max_worker=3), "max_worker"),
        (lambda c: c["available_node_types"]["policy"]["resources"].update(GPU=0.5), "0.5"),
        (lambda c: c["available_node_types"]["cpu"].update(min_workers=41), "sum of .min_workers"),
        (lambda c: c.update(head_node_type="haed"), "head_node_type"),
        (lambda c: c["available_node_types"].update(policy={"resources": {"GPU": 1}}), "node_config"),
    ],
    ids=["unknown key", "unknown node key", "half a GPU", "bounds crossed", "no such head", "no instance type"],
)
def test_ray_refuses_a_wrong_cluster_file(break_it, words):
    broken = copy.deepcopy(LAUNCHER)
    break_it(broken)
    with pytest.raises((jsonschema.ValidationError, ValueError), match=words):
        validate_config(prepare_config(broken))


def test_the_launcher_has_nodes_for_every_role_between_bounds():
    nodes = LAUNCHER["available_node_types"]
    workers = {name: node for name, node in nodes.items() if name != LAUNCHER["head_node_type"]}
    assert set(workers) == ROLES == {node["labels"]["stars-role"] for node in workers.values()}
    assert all(0 <= node["min_workers"] < node["max_workers"] for node in workers.values())
    assert sum(node["max_workers"] for node in workers.values()) == LAUNCHER["max_workers"]
    assert nodes["cpu"]["resources"]["CPU"] >= 2 and "GPU" not in nodes["cpu"]["resources"]
    assert all(nodes[role]["resources"] == {"CPU": 0, "GPU": 1} for role in ("policy", "reward"))
    (folder,) = LAUNCHER["file_mounts"]
    assert all(command.startswith(f"cd {folder} && ") for command in LAUNCHER["setup_commands"])


def test_every_file_names_the_pinned_ray():
    image = LAUNCHER["docker"]["image"]
    assert image.startswith(f"rayproject/ray:{PINS['ray']}-py311")
    assert f"FROM {image}\n" in (ROOT / "deploy/Dockerfile").read_text()
    assert {cluster["rayVersion"] for cluster in CLUSTERS.values()} == {PINS["ray"]}


@pytest.mark.parametrize("name", CLUSTERS)
def test_the_kuberay_clusters_are_well_formed(name):
    cluster = CLUSTERS[name]
    assert set(cluster) == CLUSTER_KEYS and cluster["autoscalerOptions"]["version"] == "v2", "labels need version 2"
    groups = cluster["workerGroupSpecs"]
    assert {group["groupName"] for group in groups} == ROLES
    for group in groups:
        assert set(group) == GROUP_KEYS and group["labels"] == {"stars-role": group["groupName"]}
        assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        wants_gpu = group["groupName"] != "cpu"
        (container,) = group["template"]["spec"]["containers"]
        assert ("nvidia.com/gpu" in container["resources"]["limits"]) == wants_gpu
        assert group["rayStartParams"] == ({"num-cpus": "0"} if wants_gpu else {})
    containers = [c for group in [cluster["headGroupSpec"], *groups] for c in group["template"]["spec"]["containers"]]
    assert all(set(container) <= CONTAINER_KEYS for container in containers)
    built = re.search(r"-t (\S+) ", (ROOT / "deploy/Dockerfile").read_text())[1]
    workdir = re.search(r"^WORKDIR (\S+)$", (ROOT / "deploy/Dockerfile").read_text(), re.MULTILINE)[1]
    assert {(c["image"], c["workingDir"]) for c in containers} == {(built, workdir)}


def test_the_job_s_entrypoint_is_a_command_that_jobs_align_takes():
    assert (JOB["apiVersion"], JOB["kind"]) == ("ray.io/v1", "RayJob") and set(JOB["spec"]) == JOB_KEYS
    python, minus_m, module, *arguments = shlex.split(JOB["spec"]["entrypoint"])
    assert (python, minus_m, module) == ("python", "-m", "jobs.align")
    options = _parser().parse_args(arguments)
    config = load_config(str(ROOT / options.config), options.overrides)
    groups = {group["groupName"]: group for group in CLUSTERS["rayjob"]["workerGroupSpecs"]}
    cells = config.cluster
    assert cells.policy_nodes == groups["policy"]["labels"] and cells.reward_nodes == groups["reward"]["labels"]
    assert cells.cells * cells.policies_per_cell <= groups["policy"]["maxReplicas"]
    assert cells.cells * cells.rewards_per_cell <= groups["reward"]["maxReplicas"]
    assert cells.wait_for_gpus_s > 0, "the autoscaler brings the GPUs"


def test_the_service_s_application_is_there_to_import():
    assert (SERVICE["apiVersion"], SERVICE["kind"]) == ("ray.io/v1", "RayService")
    assert set(SERVICE["spec"]) == {"serveConfigV2", "rayClusterConfig"}
    serve = yaml.safe_load(SERVICE["spec"]["serveConfigV2"])
    (application,) = serve["applications"]
    assert set(serve) == {"http_options", "applications"}
    assert set(application) == {"name", "route_prefix", "import_path", "args"}
    module, _, attribute = application["import_path"].partition(":")
    assert callable(getattr(importlib.import_module(module), attribute))
    assert (ROOT / application["args"]["config"]).is_file()
