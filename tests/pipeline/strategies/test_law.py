"""The law of STARS over tables of π and R: exactly, path by path, and by the keyed draws of a run.

Exactly: the strategy runs once for every way in which its draws can fall, and the weights of the ways that end alike
add up to the closed form. An acceptance uniform falls a billionth below or above the acceptance probability, so that
the rule is held to a billionth too. By draws: tokens and acceptances come from the keyed generators, as in a run.
"""

import asyncio
from collections import Counter

import numpy as np
import pytest

from pipeline.draws import row_key, token_noise_bits, token_subkeys
from pipeline.records import SamplingParams, Segment
from pipeline.strategies import STRATEGIES, Task
from pipeline.strategies.stars import StarsConfig
from pipeline.strategies.task import report_nothing
from tests.law import acceptance, fallback_chance, kept_law, p_value
from tests.pipeline.strategies.test_strategies import ManyLanes

CLOSE = 1e-9
END = 0
PI = np.array([0.05, 0.1, 0.3, 0.25, 0.2, 0.1])  # of the one token of a segment
REWARDS = np.array([0.1, 1.4, -0.5, 0.3, 0.3, 0.9])  # two of them equal
NUM_DRAWS = 10_000


def stars(threshold, beta, attempts, proposals=1, alpha=1.0):
    return StarsConfig(
        segment_size=1,
        max_attempts=attempts,
        alpha=alpha,
        beta=beta,
        reward_threshold=threshold,
        proposals_per_round=proposals,
    )


class OneWay:
    """A task whose draws fall in one way: as given, then as is possible first; the other ways are noted.

    Args:
        world: `pi(prefix)`, the law of the next token, `reward(tokens)` and `threshold(length)`.
        given: options of the first choices.
    """

    row_key, report = 0, staticmethod(report_nothing)

    def __init__(self, knobs, world, max_new_tokens, given):
        self.knobs, self.world, self.lanes = knobs, world, ManyLanes()
        self.sampling = SamplingParams(max_new_tokens, 1.0, 1.0, 0)
        self.given, self.taken, self.weight, self.other_ways = given, (), 1.0, []
        self.probability_of = {}

    def choose(self, weights):
        possible = [option for option, weight in enumerate(weights) if weight > 0]
        if len(self.taken) < len(self.given):
            option = self.given[len(self.taken)]
        else:
            option, *others = possible
            self.other_ways += [(*self.taken, other) for other in others]
        self.taken += (option,)
        self.weight *= weights[option]
        return option

    def uniform(self, key):
        probability = self.probability_of[key.segment, key.attempt]
        return probability + CLOSE * (2 * self.choose([probability, 1 - probability]) - 1)

    async def propose(self, response_tokens, num_tokens, key, lane=0):
        token = self.choose(self.world.pi(response_tokens.tolist()))
        tokens = [*response_tokens.tolist(), token]
        line = self.world.threshold(len(tokens))
        self.probability_of[key.segment, key.attempt] = float(
            acceptance(np.array(self.world.reward(tokens)), line, self.knobs.beta)
        )
        return Segment(np.array([token], dtype=np.int32), token == END)

    async def score(self, response_tokens, finished, lane=0):
        return self.world.reward(response_tokens.tolist())


async def exact_law(knobs, world, max_new_tokens):
    """The weight of every response, over all ways in which the draws can fall."""
    law, waiting = Counter(), [()]
    while waiting:
        way = OneWay(knobs, world, max_new_tokens, waiting.pop())
        response = await STRATEGIES["stars"](way, way.propose, way.score)
        law[tuple(response.tokens.tolist())] += way.weight
        waiting += way.other_ways
    return law


class Table:
    """One segment: π and R are tables, the threshold is one number."""

    def __init__(self, threshold):
        self.threshold_of_all = threshold

    def pi(self, prefix):
        return PI

    def reward(self, tokens):
        return REWARDS[tokens[-1]] if tokens else 0.0

    def threshold(self, length):
        return self.threshold_of_all


@pytest.mark.parametrize("proposals", [1, 2])
@pytest.mark.parametrize("attempts", [1, 2, 3])
@pytest.mark.parametrize(("threshold", "beta"), [(0.3, 0.0), (0.5, 0.4), (2.0, 0.7), (9.0, 0.0), (-1.0, 0.1)])
def test_a_kept_segment_has_the_closed_law(threshold, beta, attempts, proposals):
    law = asyncio.run(exact_law(stars(threshold, beta, attempts, proposals), Table(threshold), 1))
    expected = kept_law(PI, REWARDS, threshold, beta, attempts)
    assert sum(law.values()) == pytest.approx(1) == expected.sum()
    assert [law[(token,)] for token in range(len(PI))] == pytest.approx(expected.tolist(), abs=1e-12)


class World:
    """Several segments: π and R depend on what came before, the threshold rises, a token ends the response."""

    def pi(self, prefix):
        weights = np.array([1.0 + (sum(prefix) + 2 * t) % 4 for t in range(3)])
        return weights / weights.sum()

    def reward(self, tokens):
        return ((7 * sum(3**i * t for i, t in enumerate(tokens)) + 5 * len(tokens)) % 11) / 5 - 0.6

    def threshold(self, length):
        prompt_reward = self.reward([])
        return prompt_reward + (1.5 - prompt_reward) * (0.5 + 0.5 * length / 3)

    def law(self, knobs, max_new_tokens):
        """Of whole responses: the closed law of one segment after the other."""
        law, going = Counter(), {(): 1.0}
        while going:
            prefix, weight = going.popitem()
            rewards = np.array([self.reward([*prefix, token]) for token in range(3)])
            line = self.threshold(len(prefix) + 1)
            kept = kept_law(self.pi(prefix), rewards, line, knobs.beta, knobs.max_attempts)
            for token, probability in enumerate(kept.tolist()):
                response = (*prefix, token)
                ends = token == END or len(response) == max_new_tokens
                (law if ends else going)[response] = weight * probability
        return law


@pytest.mark.parametrize("proposals", [1, 3])
def test_whole_responses_have_the_law_of_their_segments(proposals):
    knobs, world = stars(1.5, 0.5, 2, proposals, alpha=0.5), World()
    law, expected = asyncio.run(exact_law(knobs, world, 3)), world.law(knobs, 3)
    assert len(expected) > 10 and sum(expected.values()) == pytest.approx(1)
    assert law == pytest.approx({response: p for response, p in expected.items() if p > 0}, abs=1e-12)


def keyed_candidates(row_keys_N, attempts):
    """Tokens [N, attempts] drawn from π as an engine draws them: by Gumbel noise from the keys of row and attempt."""
    draws_A3 = np.stack([np.zeros(attempts), np.zeros(attempts), np.arange(attempts)], axis=1).astype(np.int64)
    keys = np.repeat(row_keys_N, attempts), np.tile(draws_A3, (len(row_keys_N), 1))
    subkeys = token_subkeys(*keys, 1)
    bits = token_noise_bits(np.arange(len(PI))[None, :], *subkeys)
    noise = -np.log(-np.log((bits + 0.5) * 2.0**-32))
    return (np.log(PI) + noise).argmax(axis=1).reshape(-1, attempts)


async def drawn(knobs):
    """Kept segments of `NUM_DRAWS` rows, counted, and how many of them the fallback chose."""
    row_keys_N = np.array([row_key(11, f"row {i}") for i in range(NUM_DRAWS)])
    candidates_NA = keyed_candidates(row_keys_N, knobs.max_attempts)
    counts, num_fallback = np.zeros(len(PI), dtype=int), 0

    async def score(response_tokens, finished, lane=0):
        return REWARDS[response_tokens[-1]] if len(response_tokens) else 0.0

    for key, candidates_A in zip(row_keys_N.tolist(), candidates_NA, strict=True):

        async def propose(response_tokens, num_tokens, draw, lane=0, candidates_A=candidates_A):
            return Segment(candidates_A[draw.attempt : draw.attempt + 1].astype(np.int32), False)

        task = Task(knobs, SamplingParams(1, 1.0, 1.0, 0), key, lanes=ManyLanes())
        response = await STRATEGIES["stars"](task, propose, score)
        counts[response.tokens[0]] += 1
        num_fallback += response.segments[0].accepted_by == "fallback"
    return counts, num_fallback


@pytest.mark.parametrize(
    ("threshold", "beta", "attempts", "proposals", "refuted"),
    [
        (0.5, 0.3, 3, 1, {"threshold", "beta", "fallback"}),
        (1.1, 0.3, 12, 4, {"threshold", "beta", "fallback"}),
        (0.3, 0.0, 2, 4, {"threshold", "fallback"}),
        (0.9, 0.5, 30, 1, {"threshold", "beta"}),
    ],
    ids=["few-attempts", "high-4", "hard-rule-4", "many-attempts"],
)
def test_keyed_draws_have_the_closed_law_and_refute_others(threshold, beta, attempts, proposals, refuted):
    """Each refutation had a chance of at least 0.9999 by the chi-square's noncentrality, before a draw was made."""
    counts, num_fallback = asyncio.run(drawn(stars(threshold, beta, attempts, proposals)))
    assert p_value(counts, kept_law(PI, REWARDS, threshold, beta, attempts)) > 1e-3
    expected = NUM_DRAWS * fallback_chance(PI, REWARDS, threshold, beta, attempts)
    assert abs(num_fallback - expected) < 5 * np.sqrt(expected + 1)
    wrong = {
        "threshold": kept_law(PI, REWARDS, threshold + 0.3, beta, attempts),
        "beta": kept_law(PI, REWARDS, threshold, 2 * beta, attempts),
        "fallback": kept_law(PI, REWARDS, threshold, beta, attempts, fallback="last"),
    }
    for fault in refuted:
        assert p_value(counts, wrong[fault]) < 1e-6, fault
