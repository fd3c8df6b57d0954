"""Many model actors: every row on one policy and one reward actor, full cohorts on each, and the same rows as with one
of each."""

import asyncio
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ray._private import state

from actors.batch.deciding_sources import DECIDING_SOURCES
from actors.batch.run import run_align
from actors.coordination.coordinator import SegmentCoordinator
from actors.coordination.slots import SlotPool
from actors.engines.fakes import FakePolicy
from actors.rewards import load_reward
from actors.rewards.interface import RewardContext
from jobs.chaos.local_cluster import CLASS_NAMES
from jobs.simulate.one_cell import simulate_cell
from pipeline.config.loading import load_config
from pipeline.dataset.columns import check_columns
from pipeline.dataset.plan import plan_input
from pipeline.runs.directory import RunDirectory
from tests.actors.batch.test_run import OURS, read, run
from tests.actors.coordination.test_coordinator import align_all, make_config, outcome, prompts
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
        self.reward.reader.reads_text = False

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
def test_two_cells_of_two_policies_give_the_same_responses_as_one_of_one(ray_cluster, tmp_path):
    def embedded(name, *overrides):
        given = [
            "cluster.gpus_per_policy=0",
            "cluster.gpus_per_reward=0",
            "max_rows=24",
            "baseline_rows=0",
            f"output={tmp_path / name}",
            "generation.max_new_tokens=48",
        ]
        config = load_config("jobs/configs/embedded.yaml", [*given, *overrides])
        plan = plan_input(config.input, config.dataset.rows_per_shard, config.max_rows)
        run_align(config, plan, check_columns(plan.schema, config), RunDirectory.open(config, plan, DECIDING_SOURCES))
        return read(tmp_path / name)

    one = embedded("one", "dataset.rows_per_shard=8")
    cells = ["cluster.cells=2", "cluster.policies_per_cell=2", "engine.slots=3", "coordinator.max_cohort_size=2"]
    four = embedded("four", "dataset.rows_per_shard=3", *cells)
    assert four.select(OURS).equals(one.select(OURS))
    assert one["error_type"].null_count == 24


@pytest.mark.ray
def test_a_coordinator_that_dies_comes_back_to_its_own_cell(ray_cluster, tmp_path):
    table = pa.table({"id": range(160), "prompt": [f"prompt {i}" for i in range(160)]})
    pq.write_table(table, tmp_path / "in.parquet")
    slow = {"policy": {"backend": "fake", "fake_call_ms": 30}, "engine": {"slots": 4}, "cluster": {"cells": 2}}
    run(str(tmp_path / "in.parquet"), tmp_path / "whole")

    def coordinators():
        actors = [actor for actor in state.actors().values() if actor["State"] == "ALIVE"]
        return [actor for actor in actors if actor["ActorClassName"] == CLASS_NAMES["coordinator"]]

    def kill_one():
        while not list((tmp_path / "out").glob("_run/shards/shard-*")) or len(coordinators()) < 2:
            time.sleep(0.02)
        os.kill(coordinators()[0]["Pid"], signal.SIGKILL)

    with ThreadPoolExecutor(1) as pool:
        killing = pool.submit(kill_one)
        metrics = run(str(tmp_path / "in.parquet"), tmp_path / "out", **slow)
        killing.result()
    assert read(tmp_path / "out").select(OURS).equals(read(tmp_path / "whole").select(OURS))
    assert metrics.aligned.totals.num_rows == 160
    assert [cell.cell for cell in metrics.aligned.cells] == [0, 1]
    assert all(cell.policy.num_calls for cell in metrics.aligned.cells)
