"""What one contender did in one round, and what follows from it.

The ideal pushes each prompt token once and each proposed token once through the policy, and the same through the
reward model: a policy's last drawn token is fed only when it is accepted, but a prompt's last token is its first step.
"""

import resource
import sys
import time
from dataclasses import dataclass, field

from jobs.benchmark.workload import Lockstep
from pipeline.runs.usage import RoleUsage


@dataclass(frozen=True, slots=True)
class ProcessUsage:
    """Most memory that one process has held since it started, and the CPU time it has used since then."""

    process: str
    host_bytes: int
    device_bytes: int = 0
    cpu_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Stopwatch:
    """Wall and CPU time of this process since the stopwatch was made."""

    started_s: float = field(default_factory=time.perf_counter)
    cpu_started_s: float = field(default_factory=time.process_time)

    @property
    def wall_s(self) -> float:
        return time.perf_counter() - self.started_s

    @property
    def cpu_s(self) -> float:
        return time.process_time() - self.cpu_started_s


@dataclass(frozen=True, slots=True)
class Measurement:
    """One contender, one round. `reward` is None where no reward model took part; `cpu_s` adds up all its processes.

    `num_judged_tokens` are those of proposals that were accepted or rejected by a coin; parallel proposals draw more.
    """

    wall_s: float
    cpu_s: float
    num_prompt_tokens: int
    num_accepted_tokens: int
    num_judged_tokens: int
    num_proposed_tokens: int
    num_scored_tokens: int
    policy: RoleUsage
    reward: RoleUsage | None
    processes: tuple[ProcessUsage, ...]
    coordinator_cpu_s: float | None = None
    slot_occupancy: float | None = None

    @property
    def accepted_tokens_per_s(self) -> float:
        return self.num_accepted_tokens / self.wall_s

    @property
    def acceptance(self) -> float:
        return self.num_accepted_tokens / self.num_judged_tokens

    @property
    def policy_ideal_tokens(self) -> int:
        return self.num_prompt_tokens + self.num_proposed_tokens

    @property
    def reward_ideal_tokens(self) -> int:
        return self.num_prompt_tokens + self.num_scored_tokens

    @property
    def policy_over_ideal(self) -> float:
        return self.policy.num_tokens / self.policy_ideal_tokens

    @property
    def reward_over_ideal(self) -> float | None:
        return None if self.reward is None else self.reward.num_tokens / self.reward_ideal_tokens

    @property
    def decode_s(self) -> float:
        return self.policy.busy_s - self.policy.prefill_s - self.policy.sampling_s

    @property
    def busier_fraction(self) -> float:
        """Share of the time from first to last call in which the busier model computed."""
        return max(self.policy.busy_fraction, self.reward.busy_fraction if self.reward else 0.0)


def lockstep_measurement(
    lockstep: Lockstep, watch: Stopwatch, policy: RoleUsage, reward: RoleUsage | None = None
) -> Measurement:
    """The measurement of a contender that judged every segment it proposed."""
    return Measurement(
        wall_s=watch.wall_s,
        cpu_s=watch.cpu_s,
        num_prompt_tokens=lockstep.num_prompt_tokens,
        num_accepted_tokens=lockstep.num_accepted_tokens,
        num_judged_tokens=lockstep.num_proposed_tokens,
        num_proposed_tokens=lockstep.num_proposed_tokens,
        num_scored_tokens=lockstep.num_proposed_tokens if reward else 0,
        policy=policy,
        reward=reward,
        processes=(process_usage("both models" if reward else "policy"),),
    )


def process_usage(process: str) -> ProcessUsage:
    """This process's own."""
    unit = 1 if sys.platform == "darwin" else 1024
    host_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    torch = sys.modules.get("torch")
    device_bytes = torch.cuda.max_memory_allocated() if torch and torch.cuda.is_available() else 0
    return ProcessUsage(process, host_bytes, device_bytes, time.process_time())
