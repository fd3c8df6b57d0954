"""Out of memory and broken numbers in a model: smaller calls, and error rows only for rows that cannot be helped."""

from functools import partial

import numpy as np
import pytest

from actors.engines.backends import load_engine
from actors.engines.fakes import FakePolicy, FakeReward
from actors.models.engine_holder import EngineHolder
from pipeline.errors import ModelOutOfMemory
from pipeline.protocol import Proposals, split_prefixes
from pipeline.records import PromptRow
from tests.actors.coordination.test_coordinator import align_all, fake_engines, make_config, outcome, prompts
from tests.handles import reward_of


class TightMemory:
    """Mixed into a fake: calls of more than `room` rows, or with a row that holds `!`, find no memory."""

    room = 5

    def check(self, slots_R, prefixes):
        self.sizes = [*getattr(self, "sizes", []), len(slots_R)]
        if len(slots_R) > self.room or any(ord("!") in prefix for prefix in prefixes):
            raise ModelOutOfMemory("the model ran out of memory: test")


class TightPolicy(TightMemory, FakePolicy):
    def propose(self, cohort):
        self.check(cohort.slots_R, [cohort.prefix_tokens])
        return super().propose(cohort)


class TightReward(TightMemory, FakeReward):
    def score(self, slots_R, prefixes):
        self.check(slots_R, prefixes)
        return super().score(slots_R, prefixes)


@pytest.mark.parametrize("role", ["policy", "reward"])
def test_a_cohort_too_large_is_halved_until_it_fits_and_stays_small(role):
    config, rows = make_config(), prompts(40)
    expected, _ = align_all(config, rows)
    policy, reward = fake_engines(config)
    if role == "policy":
        tight = policy = TightPolicy(config.policy, config.engine)
    else:
        tight = TightReward(config.reward, config.engine)
        with reward.holder.engine() as held:
            held.engine = tight
    results, _ = align_all(config, rows, (policy, reward))
    assert [outcome(r) for r in results] == [outcome(r) for r in expected]
    too_large = [size for size in tight.sizes if size > tight.room]
    assert 1 <= len(too_large) <= 8 and max(tight.sizes[-20:]) <= tight.room


def test_a_row_too_large_alone_is_an_error_row_and_slows_no_other():
    config, rows = make_config(), prompts(40)
    rows[7] = PromptRow(7, "id-7", prompt="monster!")
    expected, _ = align_all(config, rows)
    tight = TightPolicy(config.policy, config.engine)
    tight.room = 32
    results, _ = align_all(config, rows, (tight, reward_of(config)))
    assert [r.error_type for r in results] == ["out_of_memory" if i == 7 else None for i in range(40)]
    assert "even alone in its call, the model ran out of memory" in results[7].error
    assert [outcome(r) for r in results if r.error_type is None] == [outcome(r) for r in expected[:7] + expected[8:]]
    assert max(tight.sizes[-40:]) > 4, "the others still share calls"


class BrokenLogits(FakePolicy):
    def propose(self, cohort):
        proposals = super().propose(cohort)
        prefixes = split_prefixes(cohort.prefix_tokens, cohort.prefix_lengths_R)
        invalid_R = np.array([ord("#") in prefix for prefix in prefixes])
        return Proposals(
            proposals.tokens_RT, proposals.lengths_R, proposals.finished_R, proposals.stats, invalid_R=invalid_R
        )


@pytest.mark.parametrize("strategy", ["stars", "vanilla", "best_of_n"])
def test_logits_that_are_not_finite_are_an_error_row(strategy):
    config = make_config()
    if strategy != "stars":
        config = config.model_validate(config.model_dump() | {"strategy": {"name": strategy}})
    rows = [PromptRow(0, "a", prompt="fine"), PromptRow(1, "b", prompt="bad #")]
    broken = BrokenLogits(config.policy, config.engine), reward_of(config)
    results, _ = align_all(config, rows, broken)
    assert [r.error_type for r in results] == [None, "non_finite_logits"]
    assert results[1].response is None and results[1].segments == ()


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB"), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 8 bytes"),
            True,
        ),
        (MemoryError(), True),
        (RuntimeError("shape mismatch"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_foreign_memory_errors_become_ours_and_the_engine_is_loaded_anew(error, is_memory):
    config = make_config()
    holder = EngineHolder("policy", partial(load_engine, "policy", config.policy, config.engine))
    with holder.engine() as first:
        pass
    with pytest.raises(ModelOutOfMemory if is_memory else type(error)), holder.engine():
        raise error
    with holder.engine() as second:
        assert (second is first) != is_memory
