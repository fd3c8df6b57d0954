"""The threshold line, the acceptance rule and the fallback, against numbers worked by hand."""

import math

from pipeline.strategies.acceptance import ThresholdLine, acceptance_probability, best_candidate


def test_threshold_line_rises_from_r0_to_the_threshold():
    line = ThresholdLine(prompt_reward=-2.0, reward_threshold=2.0, alpha=0.5, max_new_tokens=100)
    assert line.at(0) == 0.0
    assert line.at(50) == 1.0
    assert line.at(100) == 2.0


def test_alpha_moves_the_start_of_the_line():
    assert ThresholdLine(-2.0, 2.0, 0.0, 10).at(0) == -2.0
    assert ThresholdLine(-2.0, 2.0, 1.0, 10).at(0) == 2.0


def test_threshold_never_exceeds_the_wanted_reward():
    assert ThresholdLine(5.0, 2.0, 0.0, 10).at(3) == 2.0


def test_acceptance_is_soft_below_the_threshold():
    assert acceptance_probability(2.0, 2.0, 0.7) == 1.0
    assert acceptance_probability(3.0, 2.0, 0.7) == 1.0
    assert math.isclose(acceptance_probability(1.3, 2.0, 0.7), math.exp(-1.0))


def test_beta_zero_accepts_exactly_at_or_above():
    assert acceptance_probability(2.0, 2.0, 0.0) == 1.0
    assert acceptance_probability(math.nextafter(2.0, 0), 2.0, 0.0) == 0.0


def test_fallback_keeps_the_earliest_of_the_best():
    assert best_candidate([("a", 1.0), ("b", 3.0), ("c", 3.0)]) == ("b", 3.0)
