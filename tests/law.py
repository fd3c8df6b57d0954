"""The law of one kept segment (STARS) in closed form, and the chi-square that holds counts against a law.

A draw from π is kept with probability a(c) = min(1, exp((R(c) − τ) / β)); A = Σ π a is the chance that a draw is kept.
Up to M draws: by rule c is kept with probability π(c) a(c) / A · (1 − (1 − A)^M), else the best of the M rejected
draws, the earliest of equals. Nothing here is taken from the code under test.
"""

import numpy as np
import scipy.stats

LEAST_EXPECTED = 8  # draws in a cell of a chi-square; rarer cells are merged into one


def acceptance(rewards, threshold, beta):
    """a(c) of every segment; with beta 0, whether R reaches τ."""
    if beta == 0:
        return (rewards >= threshold).astype(float)
    return np.minimum(1.0, np.exp((rewards - threshold) / beta))


def fallback_chance(pi, rewards, threshold, beta, attempts):
    """The chance that no draw is kept by the rule."""
    return (1 - (pi * acceptance(rewards, threshold, beta)).sum()) ** attempts


def kept_law(pi, rewards, threshold, beta, attempts, fallback="best"):
    """P(kept segment). `fallback` "last" is the law of a wrong sampler that keeps the last draw instead of the best."""
    accept = acceptance(rewards, threshold, beta)
    A, rejected = (pi * accept).sum(), pi * (1 - accept)
    by_rule = pi * accept * sum((1 - A) ** number for number in range(attempts))
    if fallback == "last":
        return by_rule + rejected * (1 - A) ** (attempts - 1)
    below = np.array([rejected[rewards < r].sum() for r in rewards])
    equal = np.array([rejected[rewards == r].sum() for r in rewards])
    share = np.divide(rejected, equal, out=np.zeros_like(rejected), where=equal > 0)
    return by_rule + ((below + equal) ** attempts - below**attempts) * share


def p_value(counts, law):
    """Chi-square of counts against a law; cells with fewer than `LEAST_EXPECTED` expected draws are merged."""
    expected = law * counts.sum()
    rare = expected < LEAST_EXPECTED
    observed, wanted = list(counts[~rare]), list(expected[~rare])
    if expected[rare].sum() > 0:
        observed.append(counts[rare].sum())
        wanted.append(expected[rare].sum())
    wanted = np.array(wanted) * (sum(observed) / sum(wanted))
    return scipy.stats.chisquare(observed, wanted).pvalue
