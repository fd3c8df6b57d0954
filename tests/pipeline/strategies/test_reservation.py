"""Reservation values: the equation they solve, and that a segment is kept exactly when it reaches its own."""

import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from pipeline.strategies.reservation import ReservationConfig, TransitionConfig, reservation_value
from tests.pipeline.strategies.test_strategies import Script, run

FIRST = TransitionConfig(intercept=0.5, slope=0.6, deviation=1.2)
LATER = TransitionConfig(intercept=-0.2, slope=1.1, deviation=0.7)


def knobs(price, **others):
    return ReservationConfig(
        **({"segment_size": 2, "max_attempts": 4} | others), price=price, transitions=(FIRST, LATER)
    )


@pytest.mark.parametrize("price", [1e-4, 0.01, 0.1, 2.0])
@pytest.mark.parametrize(("segment", "law"), [(0, FIRST), (1, LATER), (7, LATER)])
def test_one_more_proposal_gains_at_the_value_what_it_costs(price, segment, law):
    value = reservation_value(knobs(price), segment, reward=-0.4)
    following = scipy.stats.norm(law.intercept + law.slope * -0.4, law.deviation)
    gain, _ = scipy.integrate.quad(lambda r: (r - value) * following.pdf(r), value, value + 20, epsabs=1e-12)
    assert gain == pytest.approx(price * 2, rel=1e-5)


def reward(tokens, finished):
    """0 for the prompt; a segment of attempt k adds k / 2."""
    return sum(token % 10 for token in tokens[::2]) / 2


@pytest.mark.parametrize("price", [0.01, 0.05, 0.3, 5.0])
def test_the_first_candidate_at_its_reservation_value_is_kept(price):
    response = run(knobs(price), Script(reward))
    so_far = 0.0
    for segment, record in enumerate(response.segments):
        level = reservation_value(knobs(price), segment, so_far)
        drawn = so_far + np.arange(4) / 2
        reached = np.flatnonzero(drawn >= level)
        expected = (reached[0] + 1, "rule") if len(reached) else (4, "fallback")
        assert (record.num_attempts, record.accepted_by) == expected and record.threshold == level
        so_far = drawn[reached[0]] if len(reached) else drawn[-1]
        assert record.reward == so_far
    assert response.reward == so_far and len(response.tokens) == 6


def test_a_lower_price_is_choosier():
    dear, cheap = (run(knobs(price), Script(reward)) for price in (5.0, 0.01))
    assert [s.num_attempts for s in dear.segments] == [1, 1, 1] and cheap.reward > dear.reward
