"""Which role to give the next GPU: the bounds by hand, a line fitted to calls, and when no GPU would help."""

import numpy as np
import pytest

from pipeline.config.cluster import ClusterConfig
from pipeline.protocol import CallStats
from pipeline.runs.advice import advise
from pipeline.runs.usage import CoordinatorUsage, RoleUsage


def calls(sizes_and_seconds, idle_s=0.0):
    usage, now_s = RoleUsage(), 100.0
    for rows, seconds in sizes_and_seconds:
        usage = usage.add(CallStats(np.ones(rows, dtype=np.int32), now_s, now_s + seconds))
        now_s += seconds + idle_s
    return usage


def test_a_line_through_the_calls():
    usage = calls([(rows, 0.2 + 0.01 * rows) for rows in (10, 20, 30)])
    assert [usage.call_s(rows) for rows in (0, 20, 100)] == pytest.approx([0.2, 0.4, 1.2])
    assert calls([(8, 0.4)] * 3).call_s(16) == pytest.approx(0.8), "one size only: every row costs the same"
    assert calls([(10, 0.5), (20, 0.4)]).call_s(40) == pytest.approx(0.45), "more rows never cost less"


def test_a_slow_policy_gets_the_next_gpu_as_far_as_the_reward_model_allows():
    usage = CoordinatorUsage(policy=calls([(32, 1.0)] * 20), reward=calls([(32, 0.25)] * 20, idle_s=0.75))
    advice = advise(ClusterConfig(), 2, usage)
    assert advice.role == "policy" and advice.gain == pytest.approx(1.0) and advice.other_gain == pytest.approx(0.0)
    assert "cluster.policies_per_cell=2" in advice.sentence and "+100% rows/s predicted" in advice.sentence
    nearly = CoordinatorUsage(policy=calls([(32, 1.0)] * 20), reward=calls([(32, 0.8)] * 20, idle_s=0.2))
    assert advise(ClusterConfig(), 2, nearly).gain == pytest.approx(0.25, abs=0.01), "then by the reward model"


def test_a_slow_reward_model_gets_it_less_the_part_that_every_call_costs():
    sizes = [(32, 1.0), (16, 0.55)] * 20  # 0.1 s a call, 28 ms a row
    usage = CoordinatorUsage(policy=calls([(32, 0.3), (16, 0.15)] * 20, idle_s=0.6), reward=calls(sizes))
    advice = advise(ClusterConfig(cells=4), 2, usage)
    assert advice.role == "reward" and 0.5 < advice.gain < 1.0
    assert "in every cell to one more reward (cluster.rewards_per_cell=2)" in advice.sentence


def test_a_slow_reward_that_takes_no_gpu_gets_none():
    usage = CoordinatorUsage(policy=calls([(32, 0.1)] * 20, idle_s=0.9), reward=calls([(32, 1.0)] * 20))
    advice = advise(ClusterConfig(), 2, usage, "concurrency")
    assert advice.role == "reward" and "reward 100%" in advice.sentence
    assert (
        advice.sentence.endswith("which no GPU mends; raise reward.concurrency") and "next GPU" not in advice.sentence
    )
    fast = CoordinatorUsage(policy=calls([(32, 1.0)] * 20), reward=calls([(32, 0.1)] * 20, idle_s=0.9))
    assert "cluster.policies_per_cell=2" in advise(ClusterConfig(), 2, fast, "concurrency").sentence


def test_models_that_wait_for_rows_get_no_gpu():
    idle = CoordinatorUsage(policy=calls([(4, 0.1)] * 9, idle_s=0.3), reward=calls([(4, 0.1)] * 9, idle_s=0.4))
    advice = advise(ClusterConfig(), 2, idle)
    assert advice.role == "none" and "both wait" in advice.sentence
    assert advise(ClusterConfig(), 2, CoordinatorUsage()) is None
