"""One cell on virtual time that never waits for rows: what its models would do if nothing else delayed them."""

import asyncio
from dataclasses import dataclass

import numpy as np

from actors.coordination.coordinator import SegmentCoordinator
from actors.engines.fakes import FakePolicy
from actors.rewards.classifier import load as load_classifier
from actors.rewards.interface import RewardContext
from jobs.simulate.virtual_time import VirtualModel, VirtualTimeLoop
from pipeline.config.decoding import Decoding
from pipeline.config.model_rewards import ClassifierReward
from pipeline.records import PromptRow
from pipeline.runs.usage import CoordinatorUsage

STEADY = (0.2, 0.8)  # between these parts of the rows, the cell neither fills nor empties


@dataclass(frozen=True, slots=True)
class CellRun:
    """Rows per virtual second while the cell is full, and what its models did from start to end."""

    rows_per_s: float
    usage: CoordinatorUsage


def virtual_coordinator(config: Decoding, hop_s: float) -> SegmentCoordinator:
    """A cell of fakes, made inside the loop whose time they keep."""
    num_policies, num_rewards = config.cluster.policies_per_cell, config.cluster.rewards_per_cell
    policies = [_virtual_policy(config, hop_s) for _ in range(num_policies)]
    rewards = [_virtual_reward(config, hop_s) for _ in range(num_rewards)]
    return SegmentCoordinator(config, policies, rewards)


def _virtual_policy(config: Decoding, hop_s: float) -> VirtualModel:
    policy = FakePolicy(config.policy, config.engine)
    return VirtualModel(policy, policy, hop_s)


def _virtual_reward(config: Decoding, hop_s: float) -> VirtualModel:
    assert isinstance(config.reward, ClassifierReward)
    reward = load_classifier(config.reward, RewardContext.of(config))
    return VirtualModel(reward, reward.engine, hop_s)


def simulate_cell(config: Decoding, rows: list[PromptRow], hop_s: float) -> CellRun:
    """Align all rows on a virtual clock; the answers are those of a run on the same fakes."""
    finished_s: list[float] = []

    async def align() -> CoordinatorUsage:
        loop = asyncio.get_running_loop()
        coordinator = virtual_coordinator(config, hop_s)

        async def one(row: PromptRow) -> None:
            await coordinator.align(row)
            finished_s.append(loop.time())

        await asyncio.gather(*(one(row) for row in rows))
        return coordinator.usage

    loop = VirtualTimeLoop()
    try:
        usage = loop.run_until_complete(align())
    finally:
        loop.close()
    return CellRun(steady_rate(finished_s), usage)


def steady_rate(finished_s: list[float]) -> float:
    """Rows per second between the two parts of STEADY."""
    first, last = (int(part * (len(finished_s) - 1)) for part in STEADY)
    return float((last - first) / np.diff(sorted(finished_s)[first : last + 1]).sum())
