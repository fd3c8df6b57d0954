"""Strategies on a scripted policy and reward: what is proposed, scored, kept and recorded."""

import asyncio

import numpy as np
import pytest

from pipeline.errors import RowError
from pipeline.records import SamplingParams, Segment
from pipeline.strategies import STRATEGIES, StrategyConfig, Task
from pipeline.strategies.best_of_n import BestOfNConfig
from pipeline.strategies.stars import StarsConfig
from pipeline.strategies.task import report_nothing
from pipeline.strategies.vanilla import VanillaConfig

END = 9


class Script:
    """A policy that proposes 10 * segment + attempt + lane as its tokens, and a reward that looks a table up."""

    def __init__(self, reward, ends_at=None):
        self.reward, self.ends_at = reward, ends_at
        self.proposals, self.scores = [], []

    async def propose(self, response_tokens, num_tokens, key, lane=0):
        self.proposals.append((response_tokens.tolist(), num_tokens, key))
        await asyncio.sleep(0)
        tokens = np.full(num_tokens, 10 * key.segment + key.attempt + 100 * key.lane, dtype=np.int32)
        if self.ends_at == key.segment:
            return Segment(np.array([tokens[0], END], dtype=np.int32), True)
        return Segment(tokens, False)

    async def score(self, response_tokens, finished, lane=0):
        self.scores.append((response_tokens.tolist(), finished, lane))
        return self.reward(response_tokens.tolist(), finished)


def run(knobs, script, max_new_tokens=6, report=report_nothing):
    task = Task(knobs, SamplingParams(max_new_tokens, 1.0, 1.0, 0), row_key=42, report=report)
    return asyncio.run(STRATEGIES[knobs.name](task, script.propose, script.score))


class ManyLanes:
    """Lanes without end, and a record of how many were taken at once."""

    def __init__(self):
        self.taken, self.most = set(), 0

    def take(self):
        lane = next(lane for lane in range(100) if lane not in self.taken)
        self.taken.add(lane)
        self.most = max(self.most, len(self.taken))
        return lane

    def keep(self, lane):
        assert lane in self.taken

    def give_back(self, lane):
        self.taken.remove(lane)


def stars(**knobs):
    return StarsConfig(
        **({"segment_size": 2, "max_attempts": 3, "alpha": 1.0, "beta": 0.0, "reward_threshold": 1.0} | knobs)
    )


def test_every_strategy_of_the_config_has_an_implementation():
    names = [member.model_fields["name"].default for member in StrategyConfig.__args__[0].__args__]
    assert sorted(names) == sorted(STRATEGIES)


def test_stars_accepts_the_first_segment_at_the_threshold():
    script = Script(lambda tokens, finished: 1.0 if tokens and tokens[-1] % 10 == 1 else 0.0)
    response = run(stars(), script)
    assert response.tokens.tolist() == [1, 1, 11, 11, 21, 21]
    assert [r.num_attempts for r in response.segments] == [2, 2, 2]
    assert {r.accepted_by for r in response.segments} == {"rule"}
    assert not response.finished


def test_stars_falls_back_to_the_best_attempt():
    script = Script(lambda tokens, finished: {0: -3.0, 1: -1.0, 2: -2.0}[tokens[-1] % 10] if tokens else 0.0)
    response = run(stars(), script)
    assert response.tokens.tolist() == [1, 1, 11, 11, 21, 21]
    assert all(r.accepted_by == "fallback" and r.num_attempts == 3 and r.reward == -1.0 for r in response.segments)
    assert response.reward == -1.0


@pytest.mark.parametrize("attempts", [3, 20])
def test_proposals_of_one_round_change_no_response_and_stay_within_their_width(attempts):
    """The first passing attempt in draw order wins, whatever else was under way; what is not wanted is cancelled."""

    def reward(tokens, finished):
        last = tokens[-1] if tokens else 0
        return 1.0 if last % 10 in (5, 8) else 0.1 * (last % 7)

    knobs = stars(max_attempts=attempts, alpha=1.0)
    expected, lanes = run(knobs, Script(reward)), ManyLanes()
    script = Script(reward)
    task = Task(
        knobs.model_copy(update={"proposals_per_round": 4}), SamplingParams(6, 1.0, 1.0, 0), row_key=42, lanes=lanes
    )
    response = asyncio.run(STRATEGIES["stars"](task, script.propose, script.score))
    assert response.tokens.tolist() == expected.tokens.tolist() and response.segments == expected.segments
    assert lanes.most == min(4, attempts) and not lanes.taken
    assert len(script.proposals) <= sum(r.num_attempts for r in response.segments) + 3 * len(response.segments)


def test_stars_stops_at_the_end_token_and_at_the_limit():
    ended = run(stars(), Script(lambda tokens, finished: 1.0, ends_at=1))
    assert ended.tokens.tolist() == [0, 0, 10, END] and ended.finished
    cut = run(stars(), Script(lambda tokens, finished: 1.0), max_new_tokens=5)
    assert cut.tokens.tolist() == [0, 0, 10, 10, 20] and not cut.finished


@pytest.mark.parametrize(("alpha", "thresholds"), [(0.5, [1 / 3, 2 / 3, 1.0]), (1.0, [1.0, 1.0, 1.0])])
def test_stars_measures_the_prompt_first(alpha, thresholds):
    script = Script(lambda tokens, finished: -1.0 if not tokens else 5.0)
    response = run(stars(alpha=alpha), script)
    assert script.scores[0] == ([], False, 0)
    assert [r.threshold for r in response.segments] == pytest.approx(thresholds)


def test_vanilla_scores_once_and_rejects_nothing():
    script = Script(lambda tokens, finished: -7.0, ends_at=2)
    response = run(VanillaConfig(segment_size=2), script)
    assert response.tokens.tolist() == [0, 0, 10, 10, 20, END] and response.finished
    assert script.scores == [([0, 0, 10, 10, 20, END], True, 0)]
    assert response.reward == -7.0 and response.segments == ()


def test_best_of_n_keeps_the_best_lane_and_reports_all():
    script = Script(lambda tokens, finished: {0: 1.0, 100: 3.0, 200: 3.0}[tokens[0]])
    response = run(BestOfNConfig(n=3, segment_size=4), script, max_new_tokens=4)
    assert response.tokens.tolist() == [100] * 4
    assert [reward for _, reward in response.candidates] == [1.0, 3.0, 3.0]
    assert sorted(lane for _, _, lane in script.scores) == [0, 1, 2]


def test_best_of_n_fails_as_one_when_a_lane_fails():
    def reward(tokens, finished):
        if tokens[0] == 100:
            raise RowError("non_finite_reward", "nan")
        return 0.0

    with pytest.raises(RowError):
        run(BestOfNConfig(n=3, segment_size=4), Script(reward), max_new_tokens=4)


@pytest.mark.parametrize(
    "knobs", [stars(reward_threshold=9.0), stars(), VanillaConfig(segment_size=2), BestOfNConfig(n=3)]
)
def test_the_kept_candidates_joined_are_the_response(knobs):
    script, told = Script(lambda tokens, finished: float(sum(tokens) % 7), ends_at=2), []
    response = run(knobs, script, max_new_tokens=12, report=told.append)
    kept = [judgement for judgement in told if judgement.is_kept]
    assert np.concatenate([judgement.candidate.tokens for judgement in kept]).tolist() == response.tokens.tolist()
    assert [len(j.response_tokens) for j in kept] == [0, *np.cumsum([len(j.candidate.tokens) for j in kept])[:-1]]
    assert kept[-1].candidate.finished == response.finished


def test_a_segment_kept_by_the_fallback_was_first_rejected():
    told = []
    run(
        stars(reward_threshold=9.0),
        Script(lambda tokens, finished: -float(tokens[-1] if tokens else 0)),
        2,
        told.append,
    )
    assert [(j.attempt, j.is_kept) for j in told] == [(0, False), (1, False), (2, False), (0, True)]
