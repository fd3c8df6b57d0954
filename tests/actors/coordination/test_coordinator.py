"""The coordinator with models in threads: every row answered, both models busy, results independent of batching."""

import asyncio
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from actors.coordination.coordinator import SegmentCoordinator
from actors.engines.fakes import FakePolicy, FakeReward
from actors.engines.policy_engine import PolicyEngine
from actors.engines.reward_engine import RewardEngine
from actors.engines.slot_model import SlotModel
from pipeline.config.align import AlignConfig
from pipeline.errors import ModelError
from pipeline.records import PromptRow
from tests.handles import LocalHandle, prefix_reward, reward_of
from tests.tiny_models import VOCABULARY, causal_model, reward_model


def make_config(strategy=None, engine=None, coordinator=None, **changes):
    """A config on fake models; sections are given as dicts."""
    return AlignConfig.model_validate(
        {
            "input": "-",
            "output": "-",
            "policy": {"backend": "fake"},
            "reward": {"backend": "fake"},
            "generation": {"max_new_tokens": 64},
            "strategy": {"name": "stars", "reward_threshold": 0.35, "beta": 0.1, "alpha": 1.0} | (strategy or {}),
            "engine": {"slots": 32, "max_model_len": 256} | (engine or {}),
            "coordinator": coordinator or {},
        }
        | changes
    )


def fake_engines(config):
    return FakePolicy(config.policy, config.engine), reward_of(config)


def prompts(count):
    return [PromptRow(i, f"id-{i}", prompt=f"prompt number {i} " + "x" * (i % 13)) for i in range(count)]


def align_all(config, rows, engines=None, reader=None, wrap=LocalHandle):
    """Results of all rows, and the coordinator's usage."""
    handles = [wrap(engine) for engine in engines or fake_engines(config)]

    async def run():
        coordinator = SegmentCoordinator(config, [handles[0]], [handles[1]], reader)
        results = await asyncio.gather(*(coordinator.align(row) for row in rows))
        return results, coordinator.usage

    try:
        return asyncio.run(run())
    finally:
        for handle in handles:
            handle.close()


def outcome(result):
    return result.response, result.reward, result.segments, result.rewards


STRATEGIES = [
    {},
    {"name": "vanilla"},
    {"name": "best_of_n", "n": 5},
    {"name": "reservation", "price": 0.01, "transitions": [{"intercept": 0.1, "slope": 0.5, "deviation": 0.1}]},
    {"name": "cards", "reward_threshold": 0.35, "beta": 0.1, "segment_size": 12, "max_attempts": 6},
    {"name": "blockwise_best_of_k", "k": 3},
    {"name": "adasearch", "budget": 7, "lanes": 2},
    {"name": "segment_beam", "n": 4, "beam_width": 2},
    {"name": "speculative_rejection", "n": 5},
]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_results_do_not_depend_on_slots_cohorts_or_order(strategy):
    base = {"name": "stars", "reward_threshold": 0.35, "beta": 0.1, "alpha": 1.0}
    strategy = strategy or base
    wide = make_config(engine={"slots": 64}, generation={"max_new_tokens": 40}).model_dump()
    wide = AlignConfig.model_validate(wide | {"strategy": strategy})
    narrow = AlignConfig.model_validate(
        wide.model_dump()
        | {"engine": {"slots": 7, "max_model_len": 256}, "coordinator": {"cohorts_in_flight": 3, "max_cohort_size": 2}}
    )
    rows = prompts(40)
    expected, _ = align_all(wide, rows)
    got, _ = align_all(narrow, rows[::-1])
    assert [outcome(r) for r in got[::-1]] == [outcome(r) for r in expected]
    assert len({r.response for r in expected}) > 30


def test_an_error_row_harms_no_other_row():
    config = make_config()
    rows = prompts(6)
    rows[2] = PromptRow(2, "id-2", error_type="null_prompt", error="prompt is null")
    rows[4] = PromptRow(4, "id-4", prompt="y" * 250)
    results, usage = align_all(config, rows)
    alone, _ = align_all(config, [rows[0]])
    assert [r.error_type for r in results] == [None, None, "null_prompt", None, "prompt_too_long", None]
    assert "250 prompt tokens and 64 new ones" in results[4].error
    assert outcome(results[0]) == outcome(alone[0])
    assert (usage.num_rows_done, usage.num_error_rows) == (6, 2)


def test_own_sampling_params_override_the_run():
    config = make_config()
    row = PromptRow(0, "a", prompt="hello", sampling_overrides={"max_new_tokens": 5, "seed": 9})
    (result,), _ = align_all(config, [row])
    assert result.num_response_tokens <= 5 and result.seed == 9


class FailingEngine(FakeReward):
    """Gives NaN to prefixes that hold a marker byte."""

    def score(self, slots_R, prefixes):
        rewards_R, stats = super().score(slots_R, prefixes)
        bad = np.array([ord("#") in prefix for prefix in prefixes])
        return np.where(bad, np.nan, rewards_R), stats


def test_a_reward_that_is_not_a_number_is_an_error_row():
    config = make_config()
    rows = [PromptRow(0, "a", prompt="fine"), PromptRow(1, "b", prompt="bad #")]
    policy, reward = fake_engines(config)
    with reward.holder.engine() as held:
        held.engine = FailingEngine(config.reward, config.engine)
    results, _ = align_all(config, rows, (policy, reward))
    assert [r.error_type for r in results] == [None, "non_finite_reward"]


class FaultyReward:
    """Finds fault with one row of each call it is in."""

    def __init__(self, reward):
        self.reward = reward

    def score(self, cohort):
        scores = self.reward.score(cohort)
        faults = {place: ("judge_failed", "no verdict") for place, row in enumerate(cohort.rows) if row.row_id == "b"}
        return replace(scores, faults=faults)


def test_a_reward_that_cannot_score_a_row_makes_it_an_error_row_and_no_number():
    config = make_config()
    policy, reward = fake_engines(config)
    rows = [PromptRow(0, "a", prompt="fine"), PromptRow(1, "b", prompt="fine")]
    results, _ = align_all(config, rows, (policy, FaultyReward(reward)))
    assert [(r.error_type, r.error) for r in results] == [(None, None), ("judge_failed", "no verdict")]
    assert results[1].reward is None and results[1].num_reward_calls == 1


class SilentPolicy(FakePolicy):
    released = threading.Event()

    def propose(self, cohort):
        self.released.wait(5)
        return super().propose(cohort)


def test_a_silent_model_fails_the_run_and_names_it():
    config = make_config(coordinator={"call_timeout_s": 0.1})
    engines = SilentPolicy(config.policy, config.engine), reward_of(config)
    started_s = time.monotonic()
    with pytest.raises(ModelError, match=r"policy model gave no answer for 0\.1 s"):
        try:
            align_all(config, prompts(3), engines, wrap=ReleasingHandle)
        finally:
            assert time.monotonic() - started_s < 4


class ReleasingHandle(LocalHandle):
    def close(self):
        SilentPolicy.released.set()
        super().close()


class Overlap:
    """Counts the calls of either model that began or ended while the other one was computing."""

    def __init__(self, engines):
        self.running, self.num_calls, self.num_overlapping = set(), 0, 0
        for engine, name in zip(engines, ("propose", "score"), strict=True):
            setattr(engine, name, self.watch(name, getattr(engine, name)))

    def watch(self, name, call):
        def watched(cohort):
            overlaps = bool(self.running)
            self.running.add(name)
            answer = call(cohort)
            self.running.remove(name)
            self.num_calls += 1
            self.num_overlapping += overlaps or bool(self.running)
            return answer

        return watched


@pytest.mark.parametrize(("cohorts", "least", "most"), [(1, 0.0, 0.0), (2, 0.4, 1.0)])
def test_two_cohorts_keep_both_models_computing_at_once(cohorts, least, most):
    costs = {role: {"backend": "fake", "fake_call_ms": ms} for role, ms in (("policy", 8), ("reward", 6))}
    config = make_config(coordinator={"cohorts_in_flight": cohorts}, **costs)
    engines = fake_engines(config)
    overlap = Overlap(engines)
    align_all(config, prompts(96), engines)
    assert overlap.num_calls > 30
    assert least <= overlap.num_overlapping / overlap.num_calls <= most


class TokenPrompts:
    """Prompts of ragged random tokens, made from the row's index."""

    closing_tokens = np.array([1], dtype=np.int32)

    def prompt_tokens(self, row):
        rng = np.random.default_rng(row.row_index)
        return rng.integers(2, VOCABULARY, size=rng.integers(5, 40)).astype(np.int32)

    def text(self, response_tokens):
        return " ".join(map(str, response_tokens.tolist()))


def real_engines(config):
    model = reward_model("llama")
    reward = RewardEngine(SlotModel(model, config.engine), model.score)
    limit = config.engine.max_model_len
    return PolicyEngine(causal_model("llama"), config.engine, (1,)), prefix_reward(TokenPrompts(), reward, limit)


def real_config(**engine):
    return make_config(
        strategy={"segment_size": 8, "reward_threshold": 2.0, "beta": 1.0, "alpha": 0.5, "max_attempts": 8},
        engine={"slots": 24, "max_model_len": 96} | engine,
        generation={"max_new_tokens": 40, "top_k": 20, "temperature": 0.9},
    )


def test_tokens_pushed_are_within_two_percent_of_the_ideal():
    """Contract 2: each prompt token once and each proposed token once, through both models."""
    config = real_config()
    policy, reward = real_engines(config)
    proposed, policy_propose = [], policy.propose

    def counting_propose(cohort):
        proposals = policy_propose(cohort)
        proposed.append(int(proposals.lengths_R.sum()))
        return proposals

    policy.propose = counting_propose
    results, usage = align_all(config, prompts(64), (policy, reward), TokenPrompts())
    num_prompt = sum(r.num_prompt_tokens for r in results)
    ideal = num_prompt + sum(proposed)
    attempts = sum(s.num_attempts for r in results for s in r.segments)
    assert attempts > 1.5 * sum(len(r.segments) for r in results), "too few rejections to prove anything"
    assert usage.policy.num_tokens == sum(r.num_policy_tokens for r in results)
    assert usage.policy.num_tokens <= 1.02 * ideal
    assert usage.reward.num_tokens <= 1.02 * ideal


def test_real_engines_give_the_same_responses_in_any_batch():
    rows = prompts(48)
    one, _ = align_all(real_config(), rows, real_engines(real_config()), TokenPrompts())
    other = real_config(slots=5, prefill_chunk=9)
    two, _ = align_all(other, rows[::-1], real_engines(other), TokenPrompts())
    assert [r.response for r in one] == [r.response for r in two[::-1]]
    np.testing.assert_allclose([r.reward for r in one], [r.reward for r in two[::-1]], atol=1e-5)
