"""Intervals, wins and ranks: cases worked out by hand, and scipy's word on the others."""

import numpy as np
import pytest
from scipy import stats

from jobs.compare.figures.ranks import mean_ranks, spearman
from jobs.compare.figures.resampling import Resampler, mean_over_seeds, overall_mean
from pipeline.runs.wins import RunningMean, seed_pairs, shares_draws, wins

NAN = np.nan


def test_a_mean_that_cannot_vary_has_an_interval_of_no_width():
    estimate = Resampler(5, 200, 0).estimates([np.full(5, 3.0)])[0]
    assert (estimate.mean, estimate.low, estimate.high, estimate.num_prompts) == (3.0, 3.0, 3.0, 5)


def test_two_prompts_resample_to_three_means_in_known_shares():
    """(0, 0), (0, 1), (1, 0), (1, 1) are equally likely, so 0, 1/2, 1 come with 1/4, 1/2, 1/4."""
    means = Resampler(2, 20_000, 7).means(np.array([[0.0, 1.0]]))[0]
    values, counts = np.unique(means, return_counts=True)
    assert values.tolist() == [0.0, 0.5, 1.0]
    assert stats.chisquare(counts, [5_000, 10_000, 5_000]).pvalue > 1e-3


def test_the_interval_is_scipys_percentile_interval():
    values = np.random.default_rng(1).normal(2.0, 3.0, 150)
    ours = Resampler(150, 20_000, 0).estimates([values])[0]
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=2).confidence_interval
    assert ours.mean == pytest.approx(values.mean())
    assert ours.low == pytest.approx(theirs.low, abs=0.03) and ours.high == pytest.approx(theirs.high, abs=0.03)


def test_resamples_are_the_same_for_every_figure_so_differences_are_paired():
    """A contender that is always better by 1 is so in every resample, however wide its own interval."""
    ours = np.random.default_rng(3).normal(0.0, 5.0, 40)
    resampler = Resampler(40, 500, 0)
    apart = resampler.means(np.array([ours + 1.0])) - resampler.means(np.array([ours]))
    assert np.allclose(apart, 1.0)
    assert np.array_equal(resampler.means(np.array([ours])), Resampler(40, 500, 0).means(np.array([ours])))
    assert not np.array_equal(resampler.means(np.array([ours])), Resampler(40, 500, 1).means(np.array([ours])))


def test_a_prompt_without_a_value_takes_no_part():
    whole, part = np.array([1.0, 2.0, 3.0, NAN]), np.array([NAN, NAN, NAN, NAN])
    first, nothing = Resampler(4, 1000, 0).estimates([whole, part])
    assert first.mean == 2.0 and first.num_prompts == 3 and 1.0 <= first.low <= 2.0 <= first.high <= 3.0
    assert nothing is None
    single = Resampler(2, 100, 0).estimates([np.array([4.0, NAN])])[0]
    assert (single.mean, single.low, single.high) == (4.0, None, None)


def test_seeds_are_averaged_within_a_prompt():
    means = mean_over_seeds(np.array([[1.0, NAN, NAN], [3.0, 5.0, NAN]]))
    assert means[:2].tolist() == [2.0, 5.0] and np.isnan(means[2])
    assert overall_mean(means) == 3.5 and overall_mean(np.array([NAN])) is None


def test_a_tie_is_half_a_win():
    assert wins(np.array([2.0, 1.0, 1.0]), np.array([1.0, 1.0, 2.0])).tolist() == [1.0, 0.5, 0.0]
    assert np.isnan(wins(np.array([NAN, 1.0]), np.array([1.0, NAN]))).all()


def test_runs_of_different_seeds_are_paired_where_there_are_some():
    assert seed_pairs([0, 1, 2], [0, 1, 2]) == [(0, 1), (1, 2), (2, 0)]
    assert seed_pairs([0, 1], [0, 1]) == [(0, 1), (1, 0)]
    assert seed_pairs([5], [5]) == [(0, 0)] and shares_draws([5], [5])
    assert seed_pairs([0, 1, 2], [7]) == [(0, 0), (1, 0), (2, 0)]
    assert not shares_draws([0, 1, 2], [0, 1, 2]) and not shares_draws([0], [1])


@pytest.mark.parametrize("values", [[1.0], [0.0, 0.5, 1.0, 1.0], [0.5] * 6])
def test_a_running_mean_and_its_standard_error(values):
    running = RunningMean()
    assert running.mean is None and running.standard_error is None
    for value in values:
        running.add(value)
    assert running.mean == pytest.approx(np.mean(values))
    assert running.standard_error == pytest.approx(np.std(values) / len(values) ** 0.5)


def test_ranks_and_correlation_are_scipys():
    generator = np.random.default_rng(0)
    x = generator.integers(0, 6, 80).astype(float)
    y = x + generator.integers(0, 8, 80)
    assert np.array_equal(mean_ranks(x), stats.rankdata(x))
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    holed = np.where(np.arange(80) % 9 == 0, NAN, y)
    assert spearman(x, holed) == pytest.approx(stats.spearmanr(x, holed, nan_policy="omit").statistic)
    assert spearman(np.ones(4), np.arange(4.0)) is None and spearman(np.array([1.0]), np.array([2.0])) is None
