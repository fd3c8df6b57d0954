"""How actors are started: the one file with `ray.remote` (what they may ask for: `actors.cluster.gpu_shares`).

Everything asks for `num_cpus=0`, because models that hold every CPU would leave none to read and write the dataset, but
for a reward whose config wants CPUs of its own. Actors are named after the run and owned by the driver, so they die
with it; a dead one is restarted, and its callers call again.
"""

import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.cluster.gpu_reservation import Reservation
from actors.cluster.model_loading import CONTROL, LoadingModel, wait_until_loaded
from actors.engines.backends import Role
from actors.models.policy import MAX_CONCURRENT_CALLS, PolicyActor
from actors.models.process_memory import free_device_bytes, free_host_bytes
from actors.models.reward import RewardActor
from actors.rewards import reward_traits, traits_of
from actors.rewards.interface import RewardContext, RewardTraits
from pipeline.config.decoding import Decoding
from pipeline.config.rewards import RewardConfig

PEAK_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Cell:
    """Handles of one cell's model actors: policies answer `propose`, rewards `score`, all of them `ping`. `home` is the
    node that they are on if they are all on one."""

    node_id: str
    policies: tuple[Any, ...]
    rewards: tuple[Any, ...]

    def by_role(self) -> dict[Role, tuple[Any, ...]]:
        return {"policy": self.policies, "reward": self.rewards}


@dataclass(frozen=True, slots=True)
class Models:
    """All model actors of a run."""

    cells: tuple[Cell, ...]

    def with_roles(self) -> list[tuple[Role, Any]]:
        """Every handle with its role."""
        return [(role, h) for cell in self.cells for role, handles in cell.by_role().items() for h in handles]


def start_models(config: Decoding, reservation: Reservation) -> Models:
    """Start the policies and reward models of every cell and wait until all are loaded.

    Raises:
        ModelError: a model could not be loaded.
    """
    run_name, traits = f"stars-{uuid.uuid4().hex[:8]}", traits_of(config)
    cells = (_start_cell(config, reservation, number, run_name, traits) for number in range(config.cluster.cells))
    models = Models(tuple(cells))
    names = {"policy": config.policy.title, "reward": config.reward.title}
    loading = [LoadingModel(role, names[role], handle) for role, handle in models.with_roles()]
    wait_until_loaded(loading, config.coordinator.call_timeout_s)
    return models


def _start_cell(config: Decoding, reservation: Reservation, number: int, run_name: str, traits: RewardTraits) -> Cell:
    cluster, shares = config.cluster, reservation.shares
    num_policies, num_rewards = cluster.policies_per_cell, cluster.rewards_per_cell
    of_policy, of_reward = policy_actor(shares.policy), reward_actor(config.reward, traits, shares.reward)
    context = RewardContext.of(config)

    def start(kind: ActorKind, role: Role, index: int, *arguments: Any) -> Any:
        actor = index if role == "policy" else num_policies + index
        scheduling = reservation.scheduling(number, actor, kind.num_gpus)
        return _start(kind, f"{run_name}-cell{number}-{role}{index}", scheduling, *arguments)

    return Cell(
        node_id=reservation.node_ids[number],
        policies=tuple(start(of_policy, "policy", i, config.policy, config.engine) for i in range(num_policies)),
        rewards=tuple(start(of_reward, "reward", i, config.reward, context) for i in range(num_rewards)),
    )


def start_reward(reward: RewardConfig, context: RewardContext, num_gpus: float | None, timeout_s: float) -> Any:
    """A reward alone, loaded; with null for its share, on a GPU of its own where there is one."""
    has_gpu = ray.cluster_resources().get("GPU", 0.0) >= 1 and reward.models and not reward.is_fake
    share = float(bool(has_gpu)) if num_gpus is None else num_gpus
    name = f"stars-{uuid.uuid4().hex[:8]}-judge"
    handle = _start(reward_actor(reward, reward_traits(reward, context), share), name, "DEFAULT", reward, context)
    loading = LoadingModel("reward", reward.title, handle)
    wait_until_loaded([loading], timeout_s)
    return handle


def peak_memory(models: Models) -> dict[Role, int]:
    """Most bytes that a process of each role ever held; models that are dead or silent are left out."""
    asked = {
        handle.peak_memory_bytes.options(concurrency_group=CONTROL).remote(): role
        for role, handle in models.with_roles()
    }
    answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=PEAK_TIMEOUT_S)
    peaks: dict[Role, int] = {}
    for reference in answered:
        with suppress(RayError):
            peaks[asked[reference]] = max(ray.get(reference), peaks.get(asked[reference], 0))
    return peaks


def stop_models(models: Models) -> None:
    """Free the models' memory before the driver ends."""
    for _, handle in models.with_roles():
        ray.kill(handle)


def free_host_memory(reservation: Reservation) -> int:
    """Bytes free on the fullest node that is home to a cell."""
    nodes = set(reservation.node_ids)
    if nodes == {ray.get_runtime_context().get_node_id()}:
        return free_host_bytes()
    probe = ray.remote(num_cpus=0)(free_host_bytes)
    strategies = [NodeAffinitySchedulingStrategy(node, soft=True) for node in nodes]
    return min(ray.get([probe.options(scheduling_strategy=strategy).remote() for strategy in strategies]))


def free_gpu_memory(reservation: Reservation, actor: int, num_gpus: float) -> int:
    """Bytes free of the share that actor number `actor` of any cell has of its GPU; see `Reservation.scheduling`."""
    probe = ray.remote(num_cpus=0, num_gpus=num_gpus)(free_device_bytes)
    places = [reservation.scheduling(cell, actor, num_gpus) for cell in range(reservation.cluster.cells)]
    return int(num_gpus * min(ray.get([probe.options(scheduling_strategy=place).remote() for place in places])))


def hidden_gpus(num_gpus: float) -> dict[str, str]:
    """Environment of an actor with this request: Ray no longer hides GPUs from those who ask for none."""
    return {} if num_gpus else {"CUDA_VISIBLE_DEVICES": ""}


@dataclass(frozen=True, slots=True)
class ActorKind:
    """A class of actors, what each asks Ray for, and how many calls it works on at once."""

    actor_class: type
    num_gpus: float
    num_cpus: float
    max_calls: int


def policy_actor(num_gpus: float) -> ActorKind:
    return ActorKind(PolicyActor, num_gpus, 0, MAX_CONCURRENT_CALLS)


def reward_actor(reward: RewardConfig, traits: RewardTraits, num_gpus: float) -> ActorKind:
    return ActorKind(RewardActor, num_gpus, reward.cpus, traits.max_calls)


def _start(kind: ActorKind, name: str, scheduling: Any, *arguments: Any) -> Any:
    remote_class = ray.remote(
        num_cpus=kind.num_cpus,
        num_gpus=kind.num_gpus,
        max_restarts=-1,
        max_task_retries=0,
        max_concurrency=kind.max_calls,
        concurrency_groups={CONTROL: 1},
        scheduling_strategy=scheduling,
        runtime_env={"env_vars": hidden_gpus(kind.num_gpus)},
    )(kind.actor_class)
    return remote_class.options(name=name).remote(*arguments)
