"""Starts every contender in its own process and lets them run a round one at a time.

The one file of the benchmark with `ray.remote`. Contenders of one process (the references; the policy engine alone)
share their models; all others hold their own copies. Each actor asks for so small a share of a GPU that all fit on one.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import ray

from actors.cluster.gpu_reservation import cluster_gpus
from actors.cluster.model_loading import last_line
from actors.models.policy import MAX_CONCURRENT_CALLS
from jobs.benchmark.config import BenchmarkConfig, ContenderName
from jobs.benchmark.engine_contenders import (
    MeasuredPolicyActor,
    MeasuredRewardActor,
    PipelineContender,
    PolicyEngineContender,
)
from jobs.benchmark.generate_batch_contender import GenerateBatchContender
from jobs.benchmark.measurement import Measurement
from jobs.benchmark.model_folders import ModelFolders
from jobs.benchmark.reference_contenders import ReferenceContender
from jobs.benchmark.vllm_process import VllmProcess, vllm_interpreter
from jobs.benchmark.workload import Workload


class Contender(Protocol):
    """One row of the table. `num_prompts` is how many prompts of a round it gets."""

    name: str
    num_prompts: int

    def run(self, workload: Workload) -> Measurement: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Unavailable:
    """A contender that cannot run, and why."""

    name: str
    reason: str


@dataclass(slots=True)
class ActorContender:
    """A contender that is a method of a Ray actor; `close` ends its actors, unless another contender did."""

    name: str
    num_prompts: int
    actors: tuple[Any, ...]
    method: str

    def run(self, workload: Workload) -> Measurement:
        return _answer(getattr(self.actors[0], self.method).remote(workload))

    def close(self) -> None:
        for actor in self.actors:
            ray.kill(actor)


@dataclass(slots=True)
class VllmContender:
    name: str
    num_prompts: int
    process: VllmProcess

    def run(self, workload: Workload) -> Measurement:
        return self.process.run(workload)

    def close(self) -> None:
        self.process.close()


@dataclass(slots=True)
class Starter:
    """What contenders are started from.

    Args:
        logs: folder for what processes outside Ray print.
    """

    config: BenchmarkConfig
    folders: ModelFolders
    logs: Path
    shared: dict[type, Any] = field(default_factory=dict)

    def start(self, name: ContenderName) -> list[Contender | Unavailable]:
        """Start a contender, or say why it cannot run; the pipeline starts once for each `proposals_per_round`."""
        try:
            return STARTERS[name](self, name)
        except Exception as error:  # whatever it was, the other contenders still run
            return [Unavailable(name, last_line(error))]

    def actor(self, actor_class: type, *args: Any, max_concurrency: int = 1) -> Any:
        """An actor that has loaded its models, so that nothing loads while another contender is measured."""
        num_gpus = self.config.num_gpus if cluster_gpus() else 0
        remote_class = ray.remote(num_cpus=0, num_gpus=num_gpus, max_concurrency=max_concurrency)(actor_class)
        actor = remote_class.remote(*args)
        _answer(actor.__ray_ready__.remote())
        return actor

    def shared_actor(self, actor_class: type, *args: Any) -> Any:
        """One actor for all contenders of a class."""
        if actor_class not in self.shared:
            self.shared[actor_class] = self.actor(actor_class, *args)
        return self.shared[actor_class]


def _answer(reference: Any) -> Any:
    """Like `ray.get`, but an exception raised by a signal handler is not swallowed."""
    return reference.future().result()


def _pipeline(starter: Starter, name: str) -> list[Contender | Unavailable]:
    config, contenders = starter.config, []
    for proposals in config.proposals_per_round:
        pipeline = config.pipeline(proposals, starter.folders.policy, starter.folders.reward)
        policy = starter.actor(
            MeasuredPolicyActor, pipeline.policy, pipeline.engine, max_concurrency=MAX_CONCURRENT_CALLS
        )
        reward = starter.actor(MeasuredRewardActor, pipeline.reward, pipeline.engine)
        coordinator = ray.remote(num_cpus=0)(PipelineContender).remote(pipeline, policy, reward)
        actors = (coordinator, policy, reward)
        contenders.append(ActorContender(f"{name} k={proposals}", config.num_prompts, actors, "run"))
    return contenders


def _policy_engine(starter: Starter, name: str) -> list[Contender | Unavailable]:
    pipeline = starter.config.pipeline(1, starter.folders.policy, starter.folders.reward)
    actor = starter.shared_actor(PolicyEngineContender, pipeline, starter.config.time_limit_s)
    return [ActorContender(name, starter.config.num_prompts, (actor,), name)]


def _one_at_a_time(starter: Starter, name: str) -> list[Contender | Unavailable]:
    actor = starter.shared_actor(ReferenceContender, starter.config, starter.folders)
    return [ActorContender(name, starter.config.reference_prompts, (actor,), name)]


def _batched(starter: Starter, name: str) -> list[Contender | Unavailable]:
    actor = starter.shared_actor(ReferenceContender, starter.config, starter.folders)
    return [ActorContender(name, starter.config.reference_batch, (actor,), name)]


def _generate_batch(starter: Starter, name: str) -> list[Contender | Unavailable]:
    actor = starter.actor(GenerateBatchContender, starter.config, starter.folders)
    return [ActorContender(name, starter.config.num_prompts, (actor,), name)]


def _vllm(starter: Starter, name: str) -> list[Contender | Unavailable]:
    interpreter = vllm_interpreter(starter.config)
    if interpreter is None:
        return [Unavailable(name, "not installed")]
    process = VllmProcess(starter.config, starter.folders.policy, interpreter, starter.logs / "vllm.log")
    return [VllmContender(name, starter.config.num_prompts, process)]


STARTERS: dict[ContenderName, Callable[[Starter, str], list[Contender | Unavailable]]] = {
    "pipeline": _pipeline,
    "recompute": _one_at_a_time,
    "recompute_batched": _batched,
    "generate_per_segment": _one_at_a_time,
    "generate_per_segment_batched": _batched,
    "plain": _policy_engine,
    "policy_part": _policy_engine,
    "generate_batch": _generate_batch,
    "vllm": _vllm,
}
