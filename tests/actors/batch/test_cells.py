"""Many model actors: every row on one policy and one reward actor, full cohorts on each, and the same rows as with one
of each."""

import asyncio
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from ray._private import state

from actors.batch.tasks import start_monitor
from actors.coordination.coordinator import SegmentCoordinator
from actors.coordination.slots import SlotPool
from actors.engines.fakes import FakePolicy
from actors.rewards import load_reward
from actors.rewards.interface import RewardContext
from jobs.simulate.one_cell import simulate_cell
from pipeline.records import PromptRow
from tests.actors.batch.test_run import OURS, read, run
from tests.actors.coordination.test_coordinator import align_all, make_config, outcome, prompts
from tests.configs import fake_config
from tests.embedded import run_embedded
from tests.handles import LocalHandle

SLOTS = 12


class CountingPolicy(FakePolicy):
    def propose(self, cohort):
        self.sizes = [*getattr(self, "sizes", []), len(cohort.slots_R)]
        assert cohort.slots_R.min() >= 0 and cohort.slots_R.max() < len(self.table.lengths_S)
        return super().propose(cohort)


class CountingReward:
    def __init__(self, config, engine):
        self.reward, self.sizes = load_reward(config, RewardContext(None, engine, "user_message")), []
        with self.reward.holder.engine() as held:
            held.reader.reads_text = False

    def score(self, cohort):
        self.sizes.append(len(cohort))
        return self.reward.score(cohort)


def align_in_cell(config, rows, num_policies, num_rewards):
    """Results of a coordinator over so many models in threads, and the models."""
    reward_slots = -(-SLOTS * num_policies // num_rewards)
    policies = [CountingPolicy(config.policy, config.engine) for _ in range(num_policies)]
    reward_engine = config.engine.model_copy(update={"slots": reward_slots})
    rewards = [CountingReward(config.reward, reward_engine) for _ in range(num_rewards)]
    handles = [LocalHandle(engine) for engine in [*policies, *rewards]]

    async def align():
        coordinator = SegmentCoordinator(config, handles[:num_policies], handles[num_policies:])
        return await asyncio.gather(*(coordinator.align(row) for row in rows)), coordinator.usage

    try:
        return *asyncio.run(align()), policies, rewards
    finally:
        for handle in handles:
            handle.close()


@pytest.mark.parametrize(("num_policies", "num_rewards"), [(2, 1), (3, 2), (1, 3), (4, 4)])
@pytest.mark.parametrize("strategy", [{}, {"name": "best_of_n", "n": 5}], ids=["stars", "best_of_n"])
def test_rows_are_the_same_with_any_number_of_models(strategy, num_policies, num_rewards):
    config = make_config(engine={"slots": SLOTS})
    if strategy:
        config = config.model_validate(config.model_dump() | {"strategy": strategy})
    rows = prompts(90)
    expected, _ = align_all(config, rows)
    results, usage, policies, rewards = align_in_cell(config, rows, num_policies, num_rewards)
    assert [outcome(r) for r in results] == [outcome(r) for r in expected]
    assert usage.policy.num_rows == sum(sum(policy.sizes) for policy in policies)
    assert usage.reward.num_rows == sum(sum(reward.sizes) for reward in rewards)
    for engines in (policies, rewards):
        shares = [sum(engine.sizes) for engine in engines]
        assert min(shares) > 0.4 * max(shares), "every actor gets its part"


def test_cohorts_are_as_full_with_several_policies_as_with_one():
    costs = {"policy": {"backend": "fake", "fake_call_ms": 60}, "reward": {"backend": "fake", "fake_call_ms": 10}}
    usages = {}
    for num_policies in (1, 3):
        cluster = {"policies_per_cell": num_policies}
        config = make_config(engine={"slots": 32}, cluster=cluster, **costs)
        usages[num_policies] = simulate_cell(config, prompts(100 * num_policies), 0.003).usage
    one, three = usages[1], usages[3]
    assert one.policy.mean_cohort_size > 8, "of at most 16"
    assert three.policy.mean_cohort_size > 0.9 * one.policy.mean_cohort_size
    assert three.reward.mean_cohort_size > 0.9 * one.reward.mean_cohort_size, "the reward model does not take crumbs"
    assert three.policy.busy_fraction > 0.9 * one.policy.busy_fraction


def test_a_rows_lanes_share_an_actor_and_rows_go_where_the_room_is():
    async def hand_out():
        pool = SlotPool(4, 2)
        rows = [await pool.acquire(count) for count in (3, 2, 1, 2)]
        return rows, pool.borrow(rows[0][0]), pool

    (first, second, third, fourth), borrowed, _ = asyncio.run(hand_out())
    actors = [{slot // 4 for slot in slots} for slots in (first, second, third)]
    assert [len(a) for a in actors] == [1, 1, 1] and actors[0] != actors[1] == actors[2]
    assert {slot // 4 for slot in fourth} == {0, 1}, "better two actors than waiting"
    assert borrowed is None
    assert sorted([*first, *second, *third, *fourth]) == list(range(8))


@pytest.mark.ray
def test_two_cells_of_two_policies_give_the_same_responses_as_one_of_one(embedded_output, tmp_path):
    cells = ["cluster.cells=2", "cluster.policies_per_cell=2", "engine.slots=3", "coordinator.max_cohort_size=2"]
    run_embedded(tmp_path / "four", "dataset.rows_per_shard=3", *cells)
    one = read(embedded_output)
    assert read(tmp_path / "four").select(OURS).equals(one.select(OURS))
    assert one.num_rows == one["error_type"].null_count == 24


@pytest.mark.ray
def test_a_coordinator_that_dies_comes_back_to_its_own_cell(ray_cluster, tmp_path, monkeypatch):
    table = pa.table({"id": range(160), "prompt": [f"prompt {i}" for i in range(160)]})
    pq.write_table(table, tmp_path / "in.parquet")
    slow = {"policy": {"backend": "fake", "fake_call_ms": 30}, "engine": {"slots": 4}, "cluster": {"cells": 2}}
    monitors, is_over = [], threading.Event()

    def start_and_keep(models):
        monitors.append(start_monitor(models))
        return monitors[-1]

    monkeypatch.setattr("actors.batch.stages.start_monitor", start_and_keep)

    def kill_the_second_cells():
        """Once both have done something."""
        while not monitors or len(ray.get(monitors[0].by_cell.remote())) < 2:
            assert not is_over.wait(0.02), "the run was over too soon"
        claims = ray.get(monitors[0].__ray_call__.remote(lambda monitor: monitor.cells.claims))
        os.kill(state.actors(claims[1].actor_id)["Pid"], signal.SIGKILL)

    with ThreadPoolExecutor(1) as pool:
        killing = pool.submit(kill_the_second_cells)
        try:
            metrics = run(str(tmp_path / "in.parquet"), tmp_path / "out", **slow)
        finally:
            is_over.set()
        killing.result()
    usages = ray.get(monitors[0].__ray_call__.remote(lambda monitor: monitor.usage_by_coordinator))
    assert sorted(cell for cell, _ in usages) == [0, 1, 1], "the successor works in the same cell"
    assert all(usage.policy.num_calls for usage in usages.values())
    assert metrics.aligned.totals.num_rows == 160
    assert [cell.cell for cell in metrics.aligned.cells] == [0, 1]
    undisturbed, _ = align_all(
        fake_config(engine={"slots": 64, "max_model_len": 64}),
        [PromptRow(i, i, prompt=f"prompt {i}") for i in range(160)],
    )
    output = read(tmp_path / "out")
    assert output["response"].to_pylist() == [row.response for row in undisturbed]
    assert output["reward"].to_pylist() == [row.reward for row in undisturbed]
