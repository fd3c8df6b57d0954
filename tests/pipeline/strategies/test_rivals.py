"""CARDS, blockwise best-of-K, AdaSearch, segment beam and speculative rejection on a scripted policy."""

import asyncio
import itertools
import math
from collections import Counter

import numpy as np
import pytest
import scipy.stats

from pipeline.records import EntropyStop, SamplingParams, Segment
from pipeline.strategies import STRATEGIES, Task
from pipeline.strategies.adasearch import AdaSearchConfig, schedule
from pipeline.strategies.blockwise_best_of_k import BlockwiseBestOfKConfig
from pipeline.strategies.cards import CardsConfig
from pipeline.strategies.segment_beam import SegmentBeamConfig
from pipeline.strategies.speculative_rejection import SpeculativeRejectionConfig
from tests.configs import fake_config
from tests.pipeline.strategies.test_strategies import Script, run, stars


class WatchedScript(Script):
    """Keeps the lane of every proposal and the stop it was given."""

    def __init__(self, *args, **knobs):
        super().__init__(*args, **knobs)
        self.lanes, self.stops = [], []

    async def propose(self, response_tokens, num_tokens, key, lane=0, stop=None):
        self.lanes.append(lane)
        self.stops.append(stop)
        return await super().propose(response_tokens, num_tokens, key, lane)


def test_cards_is_stars_with_an_entropy_stop():
    def reward(tokens, finished):
        return 1.0 if tokens and tokens[-1] % 10 == 1 else 0.1 * len(tokens)

    shared = {"segment_size": 3, "max_attempts": 3, "alpha": 0.5, "beta": 0.4, "reward_threshold": 1.0}
    script = WatchedScript(reward)
    response = run(CardsConfig(**shared, entropy_threshold=2.5, min_segment_size=2), script, max_new_tokens=9)
    expected = run(stars(**shared), Script(reward), max_new_tokens=9)
    assert response.tokens.tolist() == expected.tokens.tolist() and response.segments == expected.segments
    assert set(script.stops) == {EntropyStop(2.5, 2)}


def test_blockwise_keeps_the_best_of_k_and_the_earliest_of_equals():
    script = WatchedScript(lambda tokens, finished: {0: 1.0, 1: 3.0, 2: 3.0, 3: 2.0}[tokens[-1] % 10])
    response = run(BlockwiseBestOfKConfig(segment_size=2, k=4), script)
    assert response.tokens.tolist() == [1, 1, 11, 11, 21, 21] and response.reward == 3.0
    assert [key.attempt for _, _, key in script.proposals] == [0, 1, 2, 3] * 3
    assert [segment.num_attempts for segment in response.segments] == [4, 4, 4]


@pytest.mark.parametrize(
    ("num_segments", "budget", "decay", "counts"),
    [
        (8, 32, 0.4, [9, 7, 5, 3, 3, 2, 2, 1]),
        (4, 16, 0.0, [4, 4, 4, 4]),
        (4, 17, 0.0, [5, 4, 4, 4]),
        (5, 3, 0.4, [1, 1, 1, 1, 1]),
        (1, 9, 0.4, [9]),
    ],
)
def test_adasearch_spends_its_budget_early(num_segments, budget, decay, counts):
    assert schedule(num_segments, budget, decay) == counts
    assert sum(counts) == max(budget, num_segments) and sorted(counts, reverse=True) == counts


def test_adasearch_follows_its_schedule_and_spares_the_lane_of_the_best():
    """The lane of the best candidate so far draws no other one, so its cache is there for the next segment."""
    script = WatchedScript(lambda tokens, finished: float(tokens[-1] % 10 == 2))
    response = run(AdaSearchConfig(segment_size=2, budget=12, decay=0.6, lanes=3), script, max_new_tokens=6)
    assert [segment.num_attempts for segment in response.segments] == schedule(3, 12, 0.6) == [6, 4, 2]
    drawn = [(key.segment, key.attempt) for _, _, key in script.proposals]
    assert drawn == [(segment, attempt) for segment, count in enumerate([6, 4, 2]) for attempt in range(count)]
    assert script.lanes == [0, 1, 2, 0, 1, 0, 0, 1, 2, 0, 0, 1]
    assert response.tokens.tolist() == [2, 2, 12, 12, 20, 20]


def test_a_beam_goes_on_from_its_best_in_the_lanes_of_these():
    """Candidates 0 … 3 of a round; of the first round 2 and 1 are kept, of later ones 3 and 2, children of both."""
    worth = [[1.0, 2.0, 3.0, 0.0], [0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 2.0, 3.0]]
    script = WatchedScript(lambda tokens, finished: worth[len(tokens) // 2 - 1][tokens[-1] % 10])
    response = run(SegmentBeamConfig(segment_size=2, n=4, beam_width=2), script, max_new_tokens=6)
    assert [(key.segment, key.attempt) for _, _, key in script.proposals] == [
        (i, j) for i in range(3) for j in range(4)
    ]
    assert script.lanes[:8] == [0, 1, 2, 3, 2, 1, 0, 3]
    assert [prefix[-1] for prefix, _, _ in script.proposals[4:8]] == [2, 1, 2, 1]
    assert response.tokens.tolist() == [2, 2, 12, 12, 23, 23] and response.reward == 3.0
    assert [(segment.reward, segment.num_attempts) for segment in response.segments] == [(3.0, 4), (2.0, 4), (3.0, 4)]


def test_a_beam_keeps_a_finished_response_as_long_as_nothing_is_better():
    script = Script(lambda tokens, finished: 5.0 if finished else float(len(tokens)), ends_at=1)
    response = run(SegmentBeamConfig(n=3, beam_width=2, segment_size=2), script, max_new_tokens=8)
    assert response.finished and response.reward == 5.0


def test_speculative_rejection_drops_the_worst_after_every_segment():
    script = WatchedScript(lambda tokens, finished: float(tokens[0] // 100 % 8))
    response = run(SpeculativeRejectionConfig(n=8, segment_size=2), script, max_new_tokens=8)
    lanes_of = [[key.lane for _, _, key in script.proposals if key.segment == segment] for segment in range(4)]
    assert [sorted(lanes) for lanes in lanes_of] == [[*range(8)], [4, 5, 6, 7], [6, 7], [7]]
    assert response.tokens.tolist() == [700, 700, 710, 710, 720, 720, 730, 730] and response.reward == 7.0
    assert all(key.lane == lane for (_, _, key), lane in zip(script.proposals, script.lanes, strict=True))


def test_speculative_rejection_lets_a_finished_response_wait_for_the_others():
    script = Script(lambda tokens, finished: 5.0 if finished else float(len(tokens)), ends_at=1)
    response = run(SpeculativeRejectionConfig(n=2, segment_size=2, rejected_fraction=0.0), script, max_new_tokens=8)
    assert response.finished and response.reward == 5.0 and len(script.scores) == 4


# Laws, by enumeration: a policy over three tokens that depends on what came before, and rewards that a table gives.

TOKENS, NUM_DRAWS = 3, 6000


def conditional(prefix):
    """The policy's law of the next token."""
    weights = np.array([1.0 + (sum(prefix) + 2 * t) % 4 for t in range(TOKENS)])
    return weights / weights.sum()


def reward_of(tokens):
    return float((7 * sum(3**i * t for i, t in enumerate(tokens)) + len(tokens)) % 11)


def drawn_responses(knobs, max_new_tokens):
    """Responses of a strategy whose proposals are independent draws, counted."""
    rng = np.random.default_rng(3)

    async def propose(response_tokens, num_tokens, key, lane=0, stop=None):
        tokens = response_tokens.tolist()
        for _ in range(num_tokens):
            tokens.append(int(np.searchsorted(conditional(tokens).cumsum(), rng.random())))
        return Segment(np.array(tokens[len(response_tokens) :], dtype=np.int32), False)

    async def score(response_tokens, finished, lane=0):
        return reward_of(response_tokens.tolist())

    async def all_rows():
        strategy, sampling = STRATEGIES[knobs.name], SamplingParams(max_new_tokens, 1.0, 1.0, 0)
        return [await strategy(Task(knobs, sampling, i), propose, score) for i in range(NUM_DRAWS)]

    return Counter(tuple(response.tokens.tolist()) for response in asyncio.run(all_rows()))


def best_of_law(prefix, count):
    """P(kept token) when the best of `count` draws is kept, by enumerating all of them."""
    law = Counter()
    for drawn in itertools.product(range(TOKENS), repeat=count):
        kept = max(drawn, key=lambda token: reward_of([*prefix, token]))
        law[kept] += math.prod(conditional(prefix)[token] for token in drawn)
    return law


def blocks_law(counts):
    law = {(): 1.0}
    for count in counts:
        law = {(*prefix, token): p * q for prefix, p in law.items() for token, q in best_of_law(prefix, count).items()}
    return law


def beam_law(n, width, length):
    """The law of the beam, round by round, over all joint draws of a round."""
    beams = {((),): 1.0}
    for _ in range(length):
        longer = Counter()
        for beam, p in beams.items():
            parents = [beam[i % len(beam)] for i in range(n)]
            for drawn in itertools.product(range(TOKENS), repeat=n):
                children = [(*parent, token) for parent, token in zip(parents, drawn, strict=True)]
                q = math.prod(conditional(parent)[token] for parent, token in zip(parents, drawn, strict=True))
                longer[tuple(sorted(children, key=reward_of, reverse=True)[:width])] += p * q
        beams = longer
    law = Counter()
    for beam, p in beams.items():
        law[beam[0]] += p
    return law


def speculative_law(n, num_kept, length):
    """All joint draws of n responses, each dropped where the definition drops it."""
    law = Counter()

    def go_on(left, p, kept):
        if not kept:
            law[max(left, key=reward_of)] += p
            return
        for drawn in itertools.product(range(TOKENS), repeat=len(left)):
            longer = [(*tokens, token) for tokens, token in zip(left, drawn, strict=True)]
            q = math.prod(conditional(tokens)[token] for tokens, token in zip(left, drawn, strict=True))
            go_on(sorted(longer, key=reward_of, reverse=True)[: kept[0]], p * q, kept[1:])

    go_on([()] * n, 1.0, num_kept[:length])
    return law


@pytest.mark.parametrize(
    ("knobs", "law", "wrong"),
    [
        (BlockwiseBestOfKConfig(segment_size=1, k=3), blocks_law([3, 3, 3]), blocks_law([2, 3, 3])),
        (
            AdaSearchConfig(segment_size=1, budget=7, decay=1.0, lanes=2),
            blocks_law([4, 2, 1]),
            blocks_law([3, 3, 1]),
        ),
        (SegmentBeamConfig(segment_size=1, n=4, beam_width=2), beam_law(4, 2, 3), beam_law(4, 1, 3)),
        (
            SpeculativeRejectionConfig(segment_size=1, n=4, rejected_fraction=0.5),
            speculative_law(4, [2, 1, 1], 3),
            speculative_law(4, [3, 1, 1], 3),
        ),
    ],
    ids=["blockwise", "adasearch", "beam", "speculative"],
)
def test_responses_have_the_enumerated_law(knobs, law, wrong):
    assert sum(law.values()) == pytest.approx(1)
    counts = drawn_responses(knobs, 3)
    assert counts.keys() <= {tokens for tokens, p in law.items() if p > 0}
    assert p_value_of(counts, law) > 1e-3
    assert p_value_of(counts, wrong) < 1e-6


def p_value_of(counts, law):
    """Chi-square of the counts; rare responses are merged into one cell."""
    cells = {tokens: p for tokens, p in law.items() if p * NUM_DRAWS >= 8}
    observed, wanted = [counts[tokens] for tokens in cells], [p * NUM_DRAWS for p in cells.values()]
    if NUM_DRAWS - sum(wanted) > 1e-6:
        observed.append(NUM_DRAWS - sum(observed))
        wanted.append(NUM_DRAWS - sum(wanted))
    return scipy.stats.chisquare(observed, np.array(wanted) * sum(observed) / sum(wanted)).pvalue


@pytest.mark.parametrize(
    "knobs",
    [
        CardsConfig(reward_threshold=9.0, segment_size=2, max_attempts=3),
        BlockwiseBestOfKConfig(segment_size=2, k=3),
        AdaSearchConfig(segment_size=2, budget=12),
        SegmentBeamConfig(segment_size=2, n=4, beam_width=2),
        SpeculativeRejectionConfig(segment_size=2, n=4),
    ],
    ids=lambda knobs: knobs.name,
)
def test_every_candidate_is_told_of_and_the_kept_ones_joined_are_the_response(knobs):
    script, told = WatchedScript(lambda tokens, finished: float(sum(tokens) % 7), ends_at=2), []
    response = run(knobs, script, max_new_tokens=12, report=told.append)
    kept = [judgement for judgement in told if judgement.is_kept]
    assert np.concatenate([judgement.candidate.tokens for judgement in kept]).tolist() == response.tokens.tolist()
    assert kept[-1].candidate.finished == response.finished
    num_candidates = {"speculative_rejection": knobs.num_lanes}.get(knobs.name, len(script.proposals))
    assert len({(j.segment, j.attempt) for j in told}) == num_candidates


ALL = {
    "vanilla": {},
    "best_of_n": {"n": 2},
    "stars": {"reward_threshold": 1.0, "segment_size": 2, "max_attempts": 3},
    "cards": {"reward_threshold": 1.0, "segment_size": 2, "max_attempts": 3},
    "reservation": {
        "price": 0.1,
        "transitions": [{"intercept": 0.0, "slope": 1.0, "deviation": 1.0}],
        "segment_size": 2,
    },
    "blockwise_best_of_k": {"segment_size": 2, "k": 2},
    "adasearch": {"segment_size": 2, "budget": 6},
    "segment_beam": {"segment_size": 2},
    "speculative_rejection": {},
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_prompts_reward_is_kept_where_it_was_asked_for(name):
    script = WatchedScript(lambda tokens, finished: float(len(tokens)) - 0.1)
    knobs = fake_config(strategy={"name": name, **ALL[name]}).strategy
    prompt_reward = run(knobs, script).prompt_reward
    was_asked = any(tokens == [] for tokens, *_ in script.scores)
    assert prompt_reward == (-0.1 if was_asked else None)
    assert was_asked == (name in ("stars", "cards", "reservation"))
