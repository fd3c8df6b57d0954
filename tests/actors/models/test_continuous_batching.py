"""Calls that join others at a token: the same tokens as one call at a time, whoever comes and goes beside them."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from actors.engines.policy_engine import PolicyEngine
from actors.models.continuous_batching import ContinuousBatching
from pipeline.errors import ModelOutOfMemory
from tests.actors.engines.test_slot_engine import cohort_of
from tests.tiny_models import CONFIGS, VOCABULARY, causal_model, engine_config


class Holder:
    """Lends one engine."""

    def __init__(self, engine):
        self.lent = engine

    def engine(self):
        return self

    def __enter__(self):
        return self.lent

    def __exit__(self, *error):
        return False


def drawn(proposals):
    rows = zip(proposals.tokens_RT, proposals.lengths_R, strict=True)
    return [t[:n].tolist() for t, n in rows], proposals.finished_R.tolist()


def random_cohorts(rng, num_calls):
    """Cohorts over two halves of the slots, with prefixes that go on from what the row drew or begin anew."""
    prompts = {slot: rng.integers(2, VOCABULARY, size=rng.integers(1, 40)).astype(np.int32) for slot in range(6)}
    for number in range(num_calls):
        half = [slot for slot in range(6) if slot % 2 == number % 2]
        slots = list(rng.permutation(half)[: rng.integers(1, 4)])
        for slot in slots:
            if rng.random() < 0.3:
                head = prompts[int(rng.integers(6))][:20]
                prompts[slot] = np.append(head, rng.integers(2, VOCABULARY, 4)).astype(np.int32)
        tops = {"top_k": 20 * int(rng.integers(2)), "top_p": float(rng.choice([0.9, 1.0]))}
        lengths = rng.integers(1, 8, size=len(slots)).tolist()
        cohort = cohort_of(slots, [prompts[s] for s in slots], lengths, number, **tops)
        if number % 3 == 0:
            thresholds = np.full(len(slots), 2.5, dtype=np.float32)
            cohort = replace(cohort, stop_entropy_R=thresholds, stop_after_R=np.full(len(slots), 2, dtype=np.int32))
        yield slots, cohort


@pytest.mark.parametrize("shapes_of", ["cpu", "cuda"])
@pytest.mark.parametrize("name", CONFIGS)
def test_calls_that_join_draw_what_they_draw_alone(name, shapes_of):
    """A call begins while the one before it is some tokens into its segments; forks, rejections, ends and entropy stops
    included."""
    rng = np.random.default_rng(11)
    joined = PolicyEngine(causal_model(name), engine_config(), (1, 2, 3), shapes_of)
    alone = PolicyEngine(causal_model(name), engine_config(), (1, 2, 3), shapes_of)
    under_way, num_joined, answers, expected = {}, 0, {}, {}
    for number, (slots, cohort) in enumerate(random_cohorts(rng, 40)):
        while any(set(slots) & set(held) for held, _ in under_way.values()) or (under_way and rng.random() < 0.3):
            answers |= {under_way.pop(call)[1]: proposals for call, proposals in joined.step()}
        num_joined += bool(under_way)
        under_way[joined.add_request(cohort)] = slots, number
        expected[number] = alone.propose(cohort)
    while under_way:
        answers |= {under_way.pop(call)[1]: proposals for call, proposals in joined.step()}
    assert {n: drawn(p) for n, p in answers.items()} == {n: drawn(p) for n, p in expected.items()}
    assert shapes_of == "cuda" or num_joined > 20
    busy_s = [proposals.stats.busy_s for proposals in answers.values()]
    spans = [proposals.stats.ended_s - proposals.stats.started_s for proposals in answers.values()]
    assert sum(busy_s) <= sum(spans)


def test_threads_share_one_engine():
    rng = np.random.default_rng(3)
    cohorts = [cohort for _, cohort in random_cohorts(rng, 30)]
    alone = PolicyEngine(causal_model("llama"), engine_config(), (1,))
    expected = [drawn(alone.propose(cohort)) for cohort in cohorts]
    calls = ContinuousBatching(Holder(PolicyEngine(causal_model("llama"), engine_config(), (1,))))
    answers = {}

    def ask(first):
        for number in range(first, len(cohorts), 3):
            answers[number] = drawn(calls.propose(cohorts[number]))

    threads = [threading.Thread(target=ask, args=(first,)) for first in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answers[number] for number in range(len(cohorts))] == expected


class TightEngine(PolicyEngine):
    """Finds no memory for more than `room` rows under way."""

    room = 3

    def add_request(self, cohort):
        under_way = self.decoder.rows
        if (len(under_way.row_A) if under_way else 0) + len(cohort.slots_R) > self.room:
            raise ModelOutOfMemory("test")
        return super().add_request(cohort)


def test_calls_that_do_not_fit_together_are_done_alone_and_one_that_never_fits_is_told():
    engine = TightEngine(causal_model("llama"), engine_config(), (1,))
    calls = ContinuousBatching(Holder(engine))
    prompt = np.array([3, 4, 5], dtype=np.int32)
    cohorts = [
        cohort_of(slots, [prompt] * len(slots), [40] * len(slots), 0) for slots in ([0, 1], [2, 3], [2, 3, 4, 5])
    ]
    outcomes = {}

    def ask(number):
        try:
            outcomes[number] = len(calls.propose(cohorts[number]).lengths_R)
        except ModelOutOfMemory:
            outcomes[number] = "out of memory"

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == {0: 2, 1: 2, 2: "out of memory"}
    assert drawn(calls.propose(cohorts[0])) == drawn(
        PolicyEngine(causal_model("llama"), engine_config(), (1,)).propose(cohorts[0])
    )
