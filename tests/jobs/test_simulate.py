"""The simulator: a clock that jumps, models that queue on it, costs fitted to calls, and advice that comes true."""

import asyncio
import json
import threading
import time

import numpy as np
import pytest

from actors.coordination.requests import Ledger, ProposeRequest, propose_cohort
from actors.engines.fakes import FakePolicy
from jobs.simulate.__main__ import main
from jobs.simulate.costs import Costs, RoleCosts, _Call, _fit
from jobs.simulate.one_cell import simulate_cell, virtual_coordinator
from jobs.simulate.virtual_time import VirtualModel, VirtualTimeLoop
from pipeline.config.align import AlignConfig
from pipeline.records import DrawKey, PromptRow, SamplingParams
from pipeline.runs.advice import advise
from pipeline.storage import locate
from tests.actors.coordination.test_coordinator import align_all, make_config, outcome, prompts

HOP_S = 0.003
COSTS = Costs(
    "made up", "p", "r", "float32", 8, 16, 3.0, RoleCosts(20, 2, 0.05, 9, 0.1), RoleCosts(5, 0.5, 0.05, 9, 0.1)
)


@pytest.fixture
def costs_file(tmp_path):
    COSTS.save(locate(str(tmp_path / "costs.json")))
    return str(tmp_path / "costs.json")


def run_on_virtual_time(coroutine):
    loop = VirtualTimeLoop()
    try:
        return loop.run_until_complete(coroutine), loop.now_s
    finally:
        loop.close()


def test_an_hour_of_sleep_takes_a_moment_and_ends_in_order():
    async def sleep(seconds):
        await asyncio.sleep(seconds)
        return asyncio.get_running_loop().time()

    async def sleepers():
        return await asyncio.gather(*(sleep(s) for s in (3600, 10, 20)))

    started_s = time.monotonic()
    times, now_s = run_on_virtual_time(sleepers())
    assert times == [3600, 10, 20] and now_s == 3600 and time.monotonic() - started_s < 5


def test_time_stands_still_until_it_may_pass():
    loop = VirtualTimeLoop(lambda instant_s: instant_s <= 5 or is_open)
    is_open, seen = False, []

    def open_gate():
        nonlocal is_open
        seen.append(loop.now_s)
        is_open = True

    loop.call_at(10, loop.stop)
    threading.Timer(0.3, lambda: loop.call_soon_threadsafe(open_gate)).start()
    loop.run_forever()
    loop.close()
    assert seen == [0.0] and loop.now_s == 10


def test_a_virtual_model_answers_one_call_at_a_time_and_counts_tokens():
    costs = {"backend": "fake", "fake_call_ms": 1000, "fake_row_ms": 100, "fake_token_ms": 10}
    config = make_config(policy=costs)

    async def call():
        policy = FakePolicy(config.policy, config.engine)
        model = VirtualModel(policy, policy, hop_s=0.5)
        sampling = SamplingParams(8, 1.0, 1.0, 0)
        prefix = np.arange(1, 12, dtype=np.int32)
        draw = DrawKey(0, 0)
        requests = [ProposeRequest(slot, prefix + slot, 4, slot, draw, sampling, Ledger(), None) for slot in range(2)]
        answers = [model.propose.remote(propose_cohort(requests, 0)) for _ in range(2)]
        return [(await answer).stats for answer in answers]

    (first, second), now_s = run_on_virtual_time(call())
    assert first.started_s == 0.25 and first.ended_s == pytest.approx(0.25 + 1 + 0.2 + 20 * 0.01)
    assert second.ended_s - second.started_s == pytest.approx(1.2), "the prefixes are cached by then"
    assert now_s == pytest.approx(second.ended_s + 0.25)


def test_virtual_time_changes_no_answer():
    config, rows = make_config(), prompts(40)
    expected, _ = align_all(config, rows)
    results = []

    async def keep(coordinator_config):
        coordinator = virtual_coordinator(coordinator_config, HOP_S)
        results.extend(await asyncio.gather(*(coordinator.align(row) for row in rows)))

    run_on_virtual_time(keep(config))
    assert [outcome(r) for r in results] == [outcome(r) for r in expected]


def test_costs_are_fitted_and_never_negative(tmp_path):
    rng = np.random.default_rng(0)
    sizes = [(int(rng.integers(1, 65)), int(rng.integers(0, 900))) for _ in range(200)]
    calls = [_Call(rows, fed, 0.02 + 0.003 * rows + 0.0001 * fed, 0.002) for rows, fed in sizes]
    fitted = _fit(calls)
    assert (fitted.call_ms, fitted.row_ms, fitted.token_ms) == pytest.approx((20, 3, 0.1), rel=1e-3)
    assert fitted.median_error < 1e-3
    shrinking = [_Call(rows, fed, 0.05 - 0.0005 * rows, 0.002) for rows, fed in sizes]
    assert min(_fit(shrinking).row_ms, _fit(shrinking).token_ms, _fit(shrinking).call_ms) >= 0
    costs = Costs("here", "p", "r", "float32", 64, 16, 2.5, fitted, RoleCosts(1, 2, 3, 4, 0.1))
    costs.save(locate(str(tmp_path / "costs.json")))
    assert Costs.load(locate(str(tmp_path / "costs.json"))) == costs
    assert costs.sections()["reward"] == {
        "backend": "fake",
        "fake_call_ms": 1,
        "fake_row_ms": 2,
        "fake_token_ms": 3,
    }


def cell_config(policy, reward, num_policies, num_rewards):
    return AlignConfig.model_validate(
        {
            "input": "-",
            "output": "-",
            "policy": {"backend": "fake"} | policy,
            "reward": {"backend": "fake"} | reward,
            "generation": {"max_new_tokens": 64},
            "strategy": {"name": "stars", "reward_threshold": 3 / 16, "beta": 0.0, "alpha": 1.0},
            "engine": {"slots": 32, "max_model_len": 256},
            "cluster": {"policies_per_cell": num_policies, "rewards_per_cell": num_rewards},
        }
    )


@pytest.mark.parametrize(
    ("policy", "reward", "num_policies", "num_rewards", "role"),
    [
        ({"fake_call_ms": 100, "fake_row_ms": 5}, {"fake_call_ms": 10, "fake_row_ms": 1}, 1, 1, "policy"),
        ({"fake_call_ms": 50, "fake_row_ms": 3}, {"fake_call_ms": 20, "fake_row_ms": 2}, 1, 1, "policy"),
        ({"fake_call_ms": 10, "fake_row_ms": 1}, {"fake_call_ms": 5, "fake_row_ms": 4}, 1, 1, "reward"),
        ({"fake_call_ms": 100, "fake_row_ms": 1}, {"fake_call_ms": 5, "fake_row_ms": 1.2}, 3, 1, "policy"),
        ({"fake_row_ms": 3, "fake_token_ms": 0.1}, {"fake_row_ms": 0.3, "fake_token_ms": 0.15}, 1, 1, "policy"),
    ],
)
def test_the_gain_that_was_advised_comes_true(policy, reward, num_policies, num_rewards, role):
    rows = [PromptRow(i, f"id-{i}", prompt=f"prompt number {i} " + "x" * (i % 50)) for i in range(250)]
    before_config = cell_config(policy, reward, num_policies, num_rewards)
    before = simulate_cell(before_config, rows, HOP_S)
    advice = advise(before_config.cluster, before_config.coordinator.cohorts_in_flight, before.usage)
    assert advice.role == role
    follow = (num_policies + 1, num_rewards) if role == "policy" else (num_policies, num_rewards + 1)
    after = simulate_cell(cell_config(policy, reward, *follow), rows, HOP_S)
    gain = after.rows_per_s / before.rows_per_s - 1
    print(f"{role}: predicted {advice.gain:+.1%}, measured {gain:+.1%}")
    assert gain == pytest.approx(advice.gain, rel=0.15, abs=0.06), "within 15 %, or 6 points of a small gain"


@pytest.mark.ray
def test_a_small_cluster_is_simulated_through_the_real_graph(ray_cluster, costs_file, tmp_path, capsys):
    options = ["--cells", "1,3", "--rows-per-cell", "96", "--max-new-tokens", "32", "--rows-per-shard", "8"]
    assert main([*options, "--costs", costs_file, "--output", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "simulation.json").read_text())
    one, three = record["points"]
    assert (one["cells"], three["cells"]) == (1, 3) and one["linear_fraction"] == 1.0
    assert 0.6 < three["linear_fraction"] < 1.2 and three["num_late"] == 0
    assert (tmp_path / "simulation.png").stat().st_size > 5000
    assert "3 cells: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--costs", "nowhere.json"], "'nowhere.json' does not exist"),
        (["--cells", "1,x"], "must be whole numbers"),
        (["--cells", "0"], "must be 1 or more"),
        (["seed=1"], "key=value is for --measure"),
    ],
)
def test_a_mistake_is_one_line(costs_file, arguments, words, capsys):
    assert main(["--costs", costs_file, *arguments]) == 2
    assert words in capsys.readouterr().err
