"""Where actors run: the one file with `ray.remote` and with the models' resource numbers (the graph has its own).

Everything asks for `num_cpus=0`: models that hold every CPU would leave none to read and write the dataset. Actors are
named after the run and owned by the driver, so they die with it; a dead one is restarted and its call sent again.
"""

import math
import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.memory_probe import free_device_bytes, free_host_bytes
from actors.model_loading import CONTROL, LoadingModel, wait_until_loaded
from actors.monitor import Monitor
from actors.policy import PolicyActor
from actors.reward import RewardActor
from pipeline.config import AlignConfig, ModelConfig
from pipeline.duplicates import RowIndices, find_duplicates
from pipeline.errors import ConfigError
from pipeline.input_plan import InputPlan
from pipeline.input_schema import InputColumns
from pipeline.retry import Retry

PEAK_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Models:
    """Handles of the model actors, which answer `propose`, `score` and `ping`."""

    policy: Any
    reward: Any


@dataclass(frozen=True, slots=True)
class GpuShares:
    policy: float
    reward: float


def start_models(config: AlignConfig) -> Models:
    """Start the policy and the reward model and wait until both are loaded.

    Raises:
        ConfigError: the cluster can never give the GPUs that the config asks for.
        ModelError: a model could not be loaded.
    """
    shares = share_gpus(config.policy, config.reward, cluster_gpus())
    run_name = f"stars-{uuid.uuid4().hex[:8]}"
    models = Models(
        policy=_start(PolicyActor, f"{run_name}-policy", shares.policy, config.policy, config),
        reward=_start(RewardActor, f"{run_name}-reward", shares.reward, config.reward, config),
    )
    roles = (("policy", config.policy, models.policy), ("reward", config.reward, models.reward))
    loading = [LoadingModel(role, model.model or model.backend, handle) for role, model, handle in roles]
    wait_until_loaded(loading, config.coordinator.call_timeout_s)
    return models


def start_monitor() -> Any:
    """Restarted where its node dies: counters may be lost, a run may not fail for want of them."""
    return ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Monitor).remote()


def start_duplicate_search(plan: InputPlan, columns: InputColumns) -> Any:
    """A reference to `find_duplicates`' answer; a task's, because the driver's memory must not grow with the rows."""
    return ray.remote(num_cpus=1)(find_duplicates).remote(plan, columns)


def start_retry_duplicates(retry: Retry, duplicates: Any) -> Any:
    """The same for rows that are redone, from the whole input's answer: a row repeats an id though it comes alone."""
    return ray.remote(num_cpus=1)(_places_of).remote(retry.row_indices, duplicates)


def _places_of(row_indices: RowIndices, duplicates: RowIndices) -> RowIndices:
    return np.flatnonzero(np.isin(row_indices, duplicates)).astype(np.int64)


def peak_memory(models: Models) -> dict[str, int]:
    """Most bytes each model's process ever held; a model that is dead or silent is left out."""
    asked = {
        role: handle.peak_memory_bytes.options(concurrency_group=CONTROL, max_task_retries=0).remote()
        for role, handle in (("policy", models.policy), ("reward", models.reward))
    }
    answered, _ = ray.wait(list(asked.values()), num_returns=len(asked), timeout=PEAK_TIMEOUT_S)
    peaks = {}
    for role, reference in asked.items():
        with suppress(RayError):
            if reference in answered:
                peaks[role] = ray.get(reference)
    return peaks


def stop_models(models: Models) -> None:
    """Free the models' memory before the driver ends."""
    for handle in (models.policy, models.reward):
        ray.kill(handle)


def cluster_gpus() -> list[float]:
    """GPUs of every node that is alive."""
    return [node["Resources"].get("GPU", 0.0) for node in ray.nodes() if node["Alive"]]


def share_gpus(policy: ModelConfig, reward: ModelConfig, gpus_by_node: list[float]) -> GpuShares:
    """GPUs for each model: as configured; else one each with two GPUs, half each with one, none without.

    Raises:
        ConfigError: no node has room; the message does the sum.
    """
    total = sum(gpus_by_node)
    asked = [_asked(model) for model in (policy, reward)]
    left = total - sum(share for share in asked if share is not None)
    fair = 0.0 if not total else 1.0 if left >= asked.count(None) else 0.5
    shares = GpuShares(*(fair if share is None else share for share in asked))
    for role, share in (("policy", shares.policy), ("reward", shares.reward)):
        if share > 1 and share != int(share):
            raise ConfigError(f"{role}.num_gpus = {share:g}: more than one GPU must be a whole number")
    if not _fit(shares.policy, shares.reward, gpus_by_node):
        nodes = ", ".join(f"{gpus:g}" for gpus in gpus_by_node)
        raise ConfigError(
            f"policy.num_gpus {shares.policy:g} + reward.num_gpus {shares.reward:g} = "
            f"{shares.policy + shares.reward:g} GPUs cannot be placed: the cluster has {total:g} (by node: {nodes})"
        )
    return shares


def free_host_memory() -> int:
    """Bytes free on the fullest node, because a model on CPUs may be placed on any."""
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    if nodes == [ray.get_runtime_context().get_node_id()]:
        return free_host_bytes()
    probe = ray.remote(num_cpus=0)(free_host_bytes)
    strategies = [NodeAffinitySchedulingStrategy(node, soft=True) for node in nodes]
    return min(ray.get([probe.options(scheduling_strategy=strategy).remote() for strategy in strategies]))


def free_gpu_memory(num_gpus: float) -> int:
    """Bytes that a model with this request has free: of one GPU, since it runs on one, or its share of that."""
    return int(min(1.0, num_gpus) * ray.get(ray.remote(num_cpus=0, num_gpus=num_gpus)(free_device_bytes).remote()))


def _asked(model: ModelConfig) -> float | None:
    return 0.0 if model.backend == "fake" and model.num_gpus is None else model.num_gpus


def _fit(policy: float, reward: float, gpus_by_node: list[float]) -> bool:
    """Whether the two requests fit on one GPU, one node or two nodes; a fraction never spans two GPUs."""
    whole_policy, whole_reward = math.ceil(policy), math.ceil(reward)
    most, *others = sorted(gpus_by_node, reverse=True)
    second = max(others, default=-1.0)
    on_one_gpu = policy + reward <= 1 <= most
    on_one_node = whole_policy + whole_reward <= most
    on_two_nodes = max(whole_policy, whole_reward) <= most and min(whole_policy, whole_reward) <= second
    return on_one_gpu or on_one_node or on_two_nodes


def _start(actor_class: type, name: str, num_gpus: float, model: ModelConfig, config: AlignConfig) -> Any:
    remote_class = ray.remote(
        num_cpus=0,
        num_gpus=num_gpus,
        max_restarts=-1,
        max_task_retries=-1,
        concurrency_groups={CONTROL: 1},
        runtime_env={"env_vars": hidden_gpus(num_gpus)},
    )(actor_class)
    return remote_class.options(name=name).remote(model, config.engine)


def hidden_gpus(num_gpus: float) -> dict[str, str]:
    """Environment of an actor with this request: Ray no longer hides GPUs from those who ask for none."""
    return {} if num_gpus else {"CUDA_VISIBLE_DEVICES": ""}
