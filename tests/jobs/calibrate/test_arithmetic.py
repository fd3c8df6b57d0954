"""Calibration against chains whose answers are known: by sum, by enumeration, and by STARS itself on the true law."""

import numpy as np
import pytest

from jobs.calibrate.law import TransitionLaw
from jobs.calibrate.rollouts import RolloutRow, Rollouts, gather_rollouts, rollout_config
from jobs.calibrate.search_variable import PLACEHOLDERS, levels, measured_transitions
from jobs.calibrate.simulated_outcome import Outcome, simulate
from jobs.calibrate.solving import Target, aim, solve, solve_value
from pipeline.errors import ConfigError, InputError
from pipeline.strategies.acceptance import ThresholdLine, acceptance_probability
from pipeline.strategies.reservation import ReservationConfig, TransitionConfig, reservation_value
from pipeline.strategies.stars import StarsConfig
from tests.configs import fake_config

SIZE, LONGEST = 8, 64
KNOBS = StarsConfig(segment_size=SIZE, max_attempts=10, alpha=0.5, beta=0.3, reward_threshold=0.0)


def record(reward, num_tokens=SIZE):
    return {"num_tokens": num_tokens, "reward": reward}


def test_rollouts_are_what_the_rows_say_however_long_a_response_may_be():
    rows = []
    for i in range(30):
        records = [record(0.5), record(float(i), num_tokens=5)]
        rows.append(RolloutRow(records, i % 3 == 0, 33.0, 20.0 + i / 10, 2048 if i % 2 else 40))
    rows.append(RolloutRow([record(1.0)], True, 28.0, -1.5, SIZE))  # one segment is all that it may be
    rollouts = gather_rollouts(rows)
    assert rollouts.prompt_reward_P.tolist() == [20.0 + i / 10 for i in range(30)] + [-1.5]
    assert rollouts.max_new_tokens_P.tolist() == [2048 if i % 2 else 40 for i in range(30)] + [SIZE]
    assert rollouts.overhead_tokens == 20.0 and rollouts.row_S[-3:].tolist() == [29, 29, 30]
    assert rollouts.before_S[1:60:2].tolist() == [0.5] * 30
    assert rollouts.before_S[::2].tolist() == rollouts.prompt_reward_P.tolist()
    assert rollouts.position_S[[0, 1, 2, 3, 60]].tolist() == [0, 8, 0, 8, 0]
    assert rollouts.finished_S[1::2].tolist() == [i % 3 == 0 for i in range(30)]
    assert rollouts.finished_S[60] and not rollouts.finished_S[0:60:2].any()
    with pytest.raises(InputError, match="needs 20 good rows"):
        gather_rollouts(rows[:10])


def two_steps(up):
    """A walk of two segments: +1 with probability `up`, else −1; the prompt's reward is 0."""
    steps = np.where(np.arange(200) % 10 < round(10 * up), 1.0, -1.0)
    before = np.concatenate([np.zeros(200), np.ones(200), -np.ones(200)])
    return Rollouts(
        row_S=np.arange(600),
        position_S=np.repeat([0, SIZE, SIZE], 200),
        before_S=before,
        reward_S=before + np.tile(steps, 3),
        num_tokens_S=np.full(600, SIZE),
        finished_S=np.zeros(600, dtype=bool),
        prompt_reward_P=np.zeros(200),
        max_new_tokens_P=np.full(200, 2 * SIZE),
        overhead_tokens=5.0,
    )


@pytest.mark.parametrize("attempts", [1, 4, 20])
def test_simulation_agrees_with_enumeration(attempts):
    up, down = 0.3, 0.7
    knobs = KNOBS.model_copy(update={"max_attempts": attempts, "alpha": 1.0, "beta": 0.0, "reward_threshold": 0.5})
    outcome = simulate(TransitionLaw(two_steps(up)), knobs)
    lost = down**attempts  # no step up in all attempts; from −1 the threshold is then out of reach
    tries = (1 - lost) / up
    num_attempts = tries + (1 - lost) * tries + lost * attempts
    num_accepted = (1 - lost) + (1 - lost) * (1 - lost)
    reward = (1 - lost) * (2 - 2 * lost) + lost * (-1 + (1 - lost) - lost)
    assert outcome.policy_tokens == pytest.approx(5 + SIZE * num_attempts, rel=0.04)
    assert outcome.acceptance_rate == pytest.approx(num_accepted / num_attempts, rel=0.06)
    assert outcome.reward == pytest.approx(reward, abs=0.12)


RESERVATION = ReservationConfig(segment_size=SIZE, max_attempts=8, **PLACEHOLDERS["reservation"])


class Walk:
    """A world whose law is known: R' = 0.9 R + noise, a response ends with probability 0.1 a segment."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)

    def step(self, reward):
        return 0.9 * reward + self.random.normal(), self.random.random() < 0.1

    def rollout(self):
        reward, length, records, finished = self.random.normal(), 0, [], False
        prompt_reward = reward
        while not finished and length < LONGEST:
            reward, finished = self.step(reward)
            length += SIZE
            records.append(record(reward))
        return RolloutRow(records, finished, 12.0 + length, prompt_reward, LONGEST)

    def stars(self, knobs):
        """Policy tokens and proposals accepted, proposals made, of one response: the loop of algorithm.md."""
        reward, length, finished, accepted, made = self.random.normal(), 0, False, 0, 0
        line = ThresholdLine(reward, knobs.reward_threshold, knobs.alpha, LONGEST)
        while not finished and length < LONGEST:
            drawn = []
            for _ in range(knobs.max_attempts):
                drawn.append(self.step(reward))
                threshold = line.at(length + SIZE)
                if self.random.random() < acceptance_probability(drawn[-1][0], threshold, knobs.beta):
                    best, accepted = drawn[-1], accepted + 1
                    break
            else:
                best = max(drawn)
            (reward, finished), length, made = best, length + SIZE, made + len(drawn)
        return 12 + made * SIZE, accepted, made

    def reservation(self, knobs):
        """The same of a response by reservation values."""
        reward, length, finished, accepted, made = self.random.normal(), 0, False, 0, 0
        while not finished and length < LONGEST:
            level, drawn = reservation_value(knobs, length // SIZE, reward), []
            while len(drawn) < knobs.max_attempts and (not drawn or drawn[-1][0] < level):
                drawn.append(self.step(reward))
            accepted += drawn[-1][0] >= level
            (reward, finished), made = (drawn[-1] if drawn[-1][0] >= level else max(drawn)), made + len(drawn)
            length += SIZE
        return 12 + made * SIZE, accepted, made


@pytest.mark.parametrize(
    "target", [Target("policy_tokens", 80), Target("policy_tokens", 160), Target("acceptance_rate", 0.3)]
)
def test_calibrated_knobs_cost_what_was_wanted_on_the_true_law(target):
    walk = Walk(seed=1)
    law = TransitionLaw(gather_rollouts(walk.rollout() for _ in range(400)))
    knobs = solve(law, KNOBS, target)
    tokens, accepted, made = np.array([walk.stars(knobs) for _ in range(1500)]).T
    measured = tokens.mean() if target.name == "policy_tokens" else accepted.sum() / made.sum()
    assert target.of(simulate(law, knobs)) == pytest.approx(target.value, rel=0.02)
    assert measured == pytest.approx(target.value, rel=0.1)


def test_beta_is_the_one_of_most_reward():
    walk = Walk(seed=2)
    law = TransitionLaw(gather_rollouts(walk.rollout() for _ in range(200)))
    best = solve(law, KNOBS, Target("policy_tokens", 120))
    soft = KNOBS.model_copy(update={"beta": 3.0})
    softer = solve_value(law, soft, Target("policy_tokens", 120), 120)
    assert simulate(law, best).reward > simulate(law, softer).reward + 0.1


@pytest.mark.parametrize("target", [Target("policy_tokens", 13), Target("policy_tokens", 5000)])
def test_what_no_threshold_reaches_is_said(target):
    walk = Walk(seed=2)
    law = TransitionLaw(gather_rollouts(walk.rollout() for _ in range(60)))
    with pytest.raises(ConfigError, match=f"{target.name} = {target.value:g} is out of reach.* it is between"):
        solve(law, KNOBS, target)


def test_only_a_threshold_line_can_be_calibrated():
    once = rollout_config(fake_config()).strategy
    assert (once.max_attempts, once.alpha, once.segment_size) == (1, 0.0, 8)
    with pytest.raises(ConfigError, match=r"strategy\.name: only stars, cards and reservation"):
        rollout_config(fake_config(strategy={"name": "vanilla"}))


@pytest.mark.parametrize(("name", "value"), [("acceptance_rate", 1.5), ("acceptance_rate", 0), ("policy_tokens", -1)])
def test_a_target_that_cannot_be_is_refused(name, value):
    with pytest.raises(ConfigError, match=f"{name}: must lie between 0 and"):
        Target(name, value)


def test_measured_transitions_are_those_of_the_walk():
    walk = Walk(seed=3)
    laws = measured_transitions(gather_rollouts(walk.rollout() for _ in range(2000)))
    assert len(laws) == LONGEST // SIZE
    for law in laws:
        assert (law.slope, law.intercept, law.deviation) == pytest.approx((0.9, 0.0, 1.0), abs=0.12)


@pytest.mark.parametrize("target", [Target("policy_tokens", 90), Target("acceptance_rate", 0.5)])
def test_a_calibrated_price_costs_what_was_wanted_on_the_true_law(target):
    walk = Walk(seed=4)
    law = TransitionLaw(gather_rollouts(walk.rollout() for _ in range(400)))
    knobs = solve(law, RESERVATION, target)
    tokens, accepted, made = np.array([walk.reservation(knobs) for _ in range(1500)]).T
    measured = tokens.mean() if target.name == "policy_tokens" else accepted.sum() / made.sum()
    assert target.of(simulate(law, knobs)) == pytest.approx(target.value, rel=0.03)
    assert measured == pytest.approx(target.value, rel=0.1)


def test_levels_are_reservation_values():
    laws = [
        TransitionConfig(intercept=0.5, slope=0.6, deviation=1.1),
        TransitionConfig(intercept=0, slope=1, deviation=2),
    ]
    knobs = RESERVATION.model_copy(update={"price": 0.01, "transitions": tuple(laws)})
    for segment in (0, 1, 5):
        wanted = [reservation_value(knobs, segment, reward) for reward in (-2.0, 0.3, 4.0)]
        assert levels(knobs, segment * SIZE, np.array([-2.0, 0.3, 4.0])) == pytest.approx(wanted)


def test_the_aim_lies_between_the_nearest_real_runs_else_follows_their_ratio():
    def probe(simulated, measured):
        return Outcome(simulated, 0.5, 0.0), Outcome(measured, 0.5, 0.0)

    target = Target("policy_tokens", 200)
    assert aim(target, [probe(200, 250)]) == pytest.approx(160)
    assert aim(target, [probe(200, 250), probe(160, 190), probe(120, 100)]) == pytest.approx(160 + 40 * 10 / 60)
