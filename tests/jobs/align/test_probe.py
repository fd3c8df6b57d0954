"""What a probe of 32 rows says of a whole input, on fake models in threads."""

import pytest

from actors.cluster.gpu_shares import GpuShares
from actors.cluster.placement import Cell
from actors.engines.fakes import FakePolicy
from jobs.align.probe import PROBE_ROWS, run_probe
from pipeline.config.cluster import ClusterConfig
from pipeline.records import PromptRow
from tests.configs import fake_config
from tests.handles import LocalHandle, reward_of

COSTS = {"backend": "fake", "fake_call_ms": 4.0, "fake_row_ms": 0.5}


def probe_of(num_rows, **sections):
    config = fake_config(**({"policy": COSTS, "reward": COSTS} | sections))
    config = config.model_copy(update={"engine": config.engine.model_copy(update={"slots": 64, "max_model_len": 512})})
    rows = [PromptRow(i, str(i), prompt=f"Tell me about {i}") for i in range(2 * PROBE_ROWS)]
    rows[3] = PromptRow(3, "3", error_type="null_prompt", error="the prompt is null")
    policy, reward = LocalHandle(FakePolicy(config.policy, config.engine)), LocalHandle(reward_of(config))
    try:
        return run_probe(config, Cell("node", (policy,), (reward,)), rows, num_rows)
    finally:
        policy.close()
        reward.close()


def test_tokens_grow_with_the_rows_and_calls_are_those_of_full_slots():
    probe, twice = probe_of(10_000), probe_of(20_000)
    assert len(probe.results) == PROBE_ROWS and probe.error_types == {"null_prompt": 1}
    kept = sum(result.num_response_tokens for result in probe.results)
    assert probe.tokens("num_response_tokens") == round(10_000 * kept / PROBE_ROWS)
    assert twice.tokens("num_response_tokens") == pytest.approx(2 * probe.tokens("num_response_tokens"), abs=1)
    assert probe.cohort_rows == {"policy": 32, "reward": 32}
    calls = probe.usage.policy.num_rows * 10_000 / PROBE_ROWS / 32
    assert probe.model_s("policy") == pytest.approx(calls * probe.usage.policy.call_s(32))


def test_more_cells_take_less_time_and_the_gpus_they_hold_are_counted():
    probe = probe_of(10_000)
    one, four = ClusterConfig(), ClusterConfig(cells=4)
    assert probe.wall_s(four) == pytest.approx(probe.wall_s(one) / 4)
    hours = probe.wall_s(one) / 3600
    assert probe.gpu_hours(one, GpuShares(1, 0.5)) == pytest.approx(1.5 * hours)
    assert probe.gpu_hours(four, GpuShares(1, 0.5)) == pytest.approx(1.5 * hours), (
        "four times the GPUs, a quarter as long"
    )


def test_a_short_input_draws_ahead_as_its_run_will_and_a_long_one_does_not():
    def attempts(probe):
        return sum(result.num_policy_calls for result in probe.results)

    short, long = probe_of(40), probe_of(10_000)
    assert short.cohort_rows["policy"] == 20
    assert attempts(short) > attempts(long)
    assert [r.response for r in short.results] == [r.response for r in long.results]
