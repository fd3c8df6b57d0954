"""This project's own contenders: the pipeline, and its policy engine alone."""

import asyncio
from typing import Any

import numpy as np

from actors.coordination.coordinator import SegmentCoordinator
from actors.engines.backends import load_engine
from actors.models.policy import PolicyActor
from actors.models.reward import RewardActor
from actors.rewards.classifier import PrefixReward
from actors.rewards.conversations import ConversationReader
from actors.rewards.held import HeldReward
from actors.rewards.interface import RewardTraits
from jobs.benchmark.measurement import Measurement, ProcessUsage, Stopwatch, lockstep_measurement, process_usage
from jobs.benchmark.workload import Lockstep, Workload
from pipeline.config.decoding import Decoding, EngineConfig
from pipeline.config.model_rewards import ClassifierReward
from pipeline.draws import row_key
from pipeline.protocol import ProposeCohort
from pipeline.records import PromptRow, TokenArray
from pipeline.runs.usage import RoleUsage


class MeasuredPolicyActor(PolicyActor):
    def usage(self) -> ProcessUsage:
        return process_usage("policy")


class MeasuredRewardActor(RewardActor):
    """A classifier that reads prompts which are tokens already."""

    def __init__(self, config: ClassifierReward, engine: EngineConfig) -> None:
        assert engine.slots is not None and engine.max_model_len is not None
        reader = ConversationReader(TokenPrompts(), False, "never", engine.max_model_len, 4 * engine.slots)
        self.reward = HeldReward(lambda: PrefixReward(reader, load_engine("reward", config, engine)))

    def usage(self) -> ProcessUsage:
        return process_usage("reward")


class TokenPrompts:
    """Prompts are tokens already; see `workload_rows`."""

    closing_tokens = np.zeros(0, dtype=np.int32)

    def prompt_tokens(self, row: PromptRow) -> TokenArray:
        return np.array(row.columns["tokens"], dtype=np.int32)

    def text(self, tokens: TokenArray) -> str:
        return ""


def workload_rows(workload: Workload) -> list[PromptRow]:
    """The workload's prompts as rows; a row's number is its place in all workloads, so that no reader mixes them up."""
    return [
        PromptRow(row, row_id, prompt="", columns={"tokens": tuple(tokens.tolist())})
        for row, (row_id, tokens) in enumerate(zip(workload.row_ids, workload.prompts, strict=True))
    ]


class PipelineContender:
    """A coordinator over two model actors, as in a run.

    Args:
        config: the pipeline's config with forced acceptance.
        policy: handle of a MeasuredPolicyActor.
        reward: handle of a MeasuredRewardActor.
    """

    def __init__(self, config: Decoding, policy: Any, reward: Any) -> None:
        self.config = config
        self.policy = policy
        self.reward = reward

    async def run(self, workload: Workload) -> Measurement:
        coordinator = SegmentCoordinator(
            self.config, [self.policy], [self.reward], TokenPrompts(), RewardTraits(reads_text=False)
        )
        before = await self._processes()
        watch = Stopwatch()
        rows = workload_rows(workload)
        results = await asyncio.gather(*(coordinator.align(row) for row in rows))
        wall_s, coordinator_cpu_s = watch.wall_s, watch.cpu_s
        after = await self._processes()
        failed = next((result.error for result in results if result.error is not None), None)
        assert failed is None, f"a row failed: {failed}"
        size, usage = workload.segment_size, coordinator.usage
        return Measurement(
            wall_s=wall_s,
            cpu_s=sum(b.cpu_s - a.cpu_s for a, b in zip(before, after, strict=True)),
            num_prompt_tokens=sum(result.num_prompt_tokens for result in results),
            num_accepted_tokens=sum(result.num_response_tokens for result in results),
            num_judged_tokens=size * sum(segment.num_attempts for result in results for segment in result.segments),
            num_proposed_tokens=size * sum(result.num_policy_calls for result in results),
            num_scored_tokens=size * sum(result.num_reward_calls - 1 for result in results),  # one is the prompt's
            policy=usage.policy,
            reward=usage.reward,
            processes=after,
            coordinator_cpu_s=coordinator_cpu_s,
            slot_occupancy=usage.slot_occupancy,
        )

    async def _processes(self) -> tuple[ProcessUsage, ...]:
        """Waits until both models are loaded, too."""
        policy, reward = await self.policy.usage.remote(), await self.reward.usage.remote()
        return policy, reward, process_usage("coordinator")


class PolicyEngineContender:
    """The policy engine in its own process, rows in lockstep, no reward: with the forced rejections, or without.

    Args:
        config: the pipeline's config with one proposal per round.
        time_limit_s: a round ends after this time.
    """

    def __init__(self, config: Decoding, time_limit_s: float) -> None:
        self.config = config
        self.time_limit_s = time_limit_s
        self.engine = load_engine("policy", config.policy, config.engine)

    def policy_part(self, workload: Workload) -> Measurement:
        """The same segments as the pipeline, accepted and rejected by the same coins."""
        lockstep, usage = Lockstep(workload, self.config.engine.slots), RoleUsage()
        watch = Stopwatch()
        while lockstep.live and watch.wall_s < self.time_limit_s:
            proposals = self.engine.propose(self._cohort(lockstep))
            usage = usage.add(proposals.stats)
            lockstep.judge([tokens[:n] for tokens, n in zip(proposals.tokens_RT, proposals.lengths_R, strict=True)])
        return lockstep_measurement(lockstep, watch, usage)

    def plain(self, workload: Workload) -> Measurement:
        """Plain generation: nothing is rejected."""
        return self.policy_part(workload.without_rejections())

    def _cohort(self, lockstep: Lockstep) -> ProposeCohort:
        live, workload, R = lockstep.live, lockstep.workload, len(lockstep.live)
        generation = self.config.generation
        return ProposeCohort(
            slots_R=np.array([row.slot for row in live], dtype=np.int32),
            prefix_tokens=np.concatenate([row.prefix for row in live]),
            prefix_lengths_R=np.array([len(row.prefix) for row in live], dtype=np.int32),
            num_tokens_R=np.full(R, workload.segment_size, dtype=np.int32),
            row_keys_R=np.array([row_key(self.config.seed, workload.row_ids[row.row]) for row in live]),
            draw_keys_R3=np.array([(0, row.segment, row.attempt) for row in live], dtype=np.int64),
            temperature_R=np.full(R, generation.temperature, dtype=np.float32),
            top_p_R=np.full(R, generation.top_p, dtype=np.float32),
            top_k_R=np.full(R, generation.top_k, dtype=np.int32),
        )
