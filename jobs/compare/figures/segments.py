"""Acceptance and reward along the response, by segment index, over all kept segments of a contender."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.compare.figures.records import SegmentFigures
from pipeline.runs.run_rows import Floats, RunRows


def segment_figures(runs: Sequence[RunRows]) -> tuple[SegmentFigures, ...]:
    """One entry per segment index that occurs; none for strategies that keep no segments."""
    lists = [chunk for rows in runs for chunk in rows.table.column("segments").chunks if len(chunk)]
    flat = pa.concat_arrays([pc.list_flatten(chunk) for chunk in lists]) if lists else None
    if flat is None or not len(flat):
        return ()
    counts_R = np.concatenate([_counts(chunk) for chunk in lists])
    index_S = _running(np.ones(len(flat)), counts_R) - 1
    ends_S = _running(_numbers(flat, "num_tokens"), counts_R)
    rewards_S, thresholds_S = _numbers(flat, "reward"), _numbers(flat, "threshold")
    attempts_S = _numbers(flat, "num_attempts")
    by_rule_S = pc.equal(pc.struct_field(flat, "accepted_by"), "rule").to_numpy(zero_copy_only=False)
    figures = []
    for index in range(int(index_S.max()) + 1):
        here = index_S == index
        figures.append(
            SegmentFigures(
                index=index,
                num_segments=int(here.sum()),
                position_tokens=float(ends_S[here].mean()),
                reward=_mean(rewards_S[here]),
                threshold=_mean(thresholds_S[here]),
                num_attempts=int(attempts_S[here].sum()),
                num_fallbacks=int((~by_rule_S[here]).sum()),
            )
        )
    return tuple(figures)


def overall_rates(figures: Sequence[SegmentFigures]) -> tuple[float | None, float | None]:
    """Accepted by rule per proposed segment, and the fraction of kept segments that are fallbacks; over all indices."""
    num_segments = sum(f.num_segments for f in figures)
    if not num_segments:
        return None, None
    num_by_rule = sum(f.num_segments - f.num_fallbacks for f in figures)
    return num_by_rule / sum(f.num_attempts for f in figures), 1 - num_by_rule / num_segments


def _mean(values: Floats) -> float | None:
    present = values[~np.isnan(values)]
    return float(present.mean()) if len(present) else None


def _counts(chunk: pa.ListArray) -> Floats:
    return pc.list_value_length(chunk).fill_null(0).to_numpy(zero_copy_only=False)


def _numbers(segments: pa.StructArray, name: str) -> Floats:
    return pc.struct_field(segments, name).to_numpy(zero_copy_only=False).astype(np.float64)


def _running(values_S: Floats, counts_R: Floats) -> Floats:
    """Running sums that start anew at every response."""
    sums_S = np.cumsum(values_S)
    ends_R = np.cumsum(counts_R)
    before_R = np.concatenate([[0.0], sums_S])[ends_R - counts_R]
    return sums_S - np.repeat(before_R, counts_R)
