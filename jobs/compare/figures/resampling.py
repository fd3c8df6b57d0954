"""Means over prompts with their 95 % intervals: the percentile bootstrap, resampling prompts.

The prompt is the unit: figures of several seeds are averaged within a prompt first, so that two responses to one prompt
never count as two independent ones. All figures of a comparison see the same resamples (they are a function of the
seed, the number of draws and the number of prompts alone), so differences between contenders are paired.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.runs.run_rows import Floats

LEVELS = (0.025, 0.975)
CHUNK_CELLS = 8_000_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over `num_prompts` prompts and its 95 % interval, which is null where one prompt is all there is."""

    mean: float
    low: float | None
    high: float | None
    num_prompts: int

    @property
    def half_width(self) -> float:
        return 0.0 if self.low is None or self.high is None else (self.high - self.low) / 2


@dataclass(frozen=True, slots=True)
class Resampler:
    """Resamples of `num_prompts` prompts with replacement."""

    num_prompts: int
    num_draws: int
    seed: int

    def means(self, values_MP: Floats) -> Floats:
        """Mean of every figure in every resample, [M, D]; a prompt whose value is nan is left out."""
        present_MP = ~np.isnan(values_MP)
        filled_MP = np.where(present_MP, values_MP, 0.0)
        chunk = max(1, CHUNK_CELLS // max(1, self.num_prompts))
        parts = []
        for first in range(0, self.num_draws, chunk):
            counts_DP = self._counts(first, min(chunk, self.num_draws - first))
            with np.errstate(invalid="ignore"):  # a resample may miss all prompts that have a value
                parts.append((filled_MP @ counts_DP.T) / (present_MP @ counts_DP.T))
        return np.concatenate(parts, axis=1)

    def estimates(self, values_MP: Sequence[Floats]) -> list[Estimate | None]:
        """One estimate per figure; None where no prompt has a value."""
        if not len(values_MP):
            return []
        stacked = np.array(values_MP, dtype=np.float64)
        return [self.estimate(values, means) for values, means in zip(stacked, self.means(stacked), strict=True)]

    def estimate(self, values_P: Floats, means_D: Floats) -> Estimate | None:
        """The mean of a figure with the interval that its resampled means give."""
        present = values_P[~np.isnan(values_P)]
        if not len(present):
            return None
        if len(present) == 1:
            return Estimate(float(present[0]), None, None, 1)
        low, high = np.nanquantile(means_D, LEVELS)
        return Estimate(float(present.mean()), float(low), float(high), len(present))

    def _counts(self, first: int, num_draws: int) -> Floats:
        """How often each prompt is in each resample, [D, P]; a chunk has its own generator."""
        generator = np.random.default_rng([self.seed, first])
        picks = generator.integers(0, self.num_prompts, size=(num_draws, self.num_prompts))
        offsets: npt.NDArray[np.int64] = np.arange(num_draws)[:, None] * self.num_prompts
        flat = np.bincount((picks + offsets).ravel(), minlength=num_draws * self.num_prompts)
        return flat.reshape(num_draws, self.num_prompts).astype(np.float64)


def mean_over_seeds(values_SP: Floats) -> Floats:
    """Each prompt's mean over the seeds that have a value for it, [P]; nan where none has."""
    present_SP = ~np.isnan(values_SP)
    num = present_SP.sum(axis=0)
    total = np.where(present_SP, values_SP, 0.0).sum(axis=0)
    return np.divide(total, num, out=np.full(values_SP.shape[1], np.nan), where=num > 0)


def overall_mean(values: Floats) -> float | None:
    """The mean of all values that are not nan; None where all are."""
    return None if np.isnan(values).all() else float(np.nanmean(values))
