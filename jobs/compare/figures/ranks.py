"""Spearman's rank correlation, ties at their mean rank."""

import numpy as np

from pipeline.runs.run_rows import Floats


def spearman(x: Floats, y: Floats) -> float | None:
    """Pearson's correlation of the ranks over entries present in both; None where it does not exist."""
    present = ~(np.isnan(x) | np.isnan(y))
    if present.sum() < 2:
        return None
    ranks_x, ranks_y = mean_ranks(x[present]), mean_ranks(y[present])
    if ranks_x.std() == 0 or ranks_y.std() == 0:
        return None
    return float(np.corrcoef(ranks_x, ranks_y)[0, 1])


def mean_ranks(values: Floats) -> Floats:
    """Ranks from 1; equal values share the mean of their places."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]
