"""The frontier and the best mix at a cost, by hand."""

import pytest

from jobs.compare.figures.equal_compute import Point, best_mix, frontier

POINTS = {
    "vanilla": Point(100, 0.0),
    "bon2": Point(200, 1.0),
    "bon4": Point(400, 2.0),
    "stars": Point(250, 2.0),
    "bad": Point(300, 0.5),
}


def test_nobody_on_the_frontier_is_beaten_in_both():
    assert frontier(POINTS) == {"vanilla", "bon2", "stars"}
    assert frontier({"a": Point(1, 1), "b": Point(1, 1)}) == {"a", "b"}, "equals do not push each other off"


def test_between_two_runs_a_coin_reaches_the_line():
    mix = best_mix(POINTS, ["vanilla", "bon2", "bon4"], 250)
    assert mix.runs == ("bon2", "bon4") and mix.share == 0.75 and mix.cost == 250
    assert mix.quality == pytest.approx(1.25)


def test_a_run_below_the_line_is_not_mixed_in():
    mix = best_mix(POINTS, ["vanilla", "bad", "bon4"], 300)
    assert mix.runs == ("vanilla", "bon4") and mix.quality == pytest.approx(4 / 3)


def test_a_family_that_is_cheaper_is_taken_at_its_best():
    mix = best_mix(POINTS, ["vanilla", "bon2"], 1000)
    assert (mix.runs, mix.share, mix.cost, mix.quality) == (("bon2",), 1.0, 200, 1.0)


def test_a_family_that_is_dearer_says_nothing():
    assert best_mix(POINTS, ["bon4"], 250) is None
