"""Contenders compared with each other by the primary judge: with the best one, pair by pair, and at equal cost."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jobs.compare.figures.equal_compute import Mix, Point, best_mix
from jobs.compare.figures.evidence import Evidence
from jobs.compare.figures.records import ContenderFigures, EqualCompute
from jobs.compare.figures.resampling import Estimate, Resampler, mean_over_seeds, overall_mean
from jobs.compare.judges.judgements import paired_wins
from pipeline.runs.run_rows import Floats


@dataclass(frozen=True, slots=True)
class Qualities:
    """The primary judge's quality of every contender that has one: by prompt [P], its mean in every resample [D], and
    the point of cost and mean quality."""

    by_prompt: dict[str, Floats]
    resampled: dict[str, Floats]
    points: dict[str, Point]
    resampler: Resampler

    @classmethod
    def of(cls, evidence: Evidence, contenders: Sequence[ContenderFigures]) -> "Qualities":
        judged = evidence.primary
        by_prompt, points = {}, {}
        for contender in contenders:
            quality = contender.quality(judged.name)
            if quality is not None and contender.policy_tokens is not None:
                values = judged.scores if judged.scores else judged.wins
                by_prompt[contender.name] = mean_over_seeds(values[contender.name])
                points[contender.name] = Point(contender.policy_tokens.mean, quality.mean)
        means = evidence.resampler.means(np.array(list(by_prompt.values()))) if by_prompt else []
        return cls(by_prompt, dict(zip(by_prompt, means, strict=True)), points, evidence.resampler)

    def behind_best(self, name: str) -> Estimate | None:
        """The best contender's quality minus this one's; None for the best itself."""
        best = max(self.points, key=lambda other: self.points[other].quality, default=None)
        return None if best is None or name not in self.points else self.gain(best, Mix((name,), 1.0, 0.0, 0.0))

    def gain(self, name: str, mix: Mix) -> Estimate | None:
        """A contender's quality minus that of runs mixed by a coin, paired by prompt."""
        shares = dict(zip(mix.runs, (mix.share, 1 - mix.share), strict=False))
        values_P = self.by_prompt[name] - sum(share * self.by_prompt[run] for run, share in shares.items())
        means_D = self.resampled[name] - sum(share * self.resampled[run] for run, share in shares.items())
        return self.resampler.estimate(values_P, means_D)


def win_matrix(evidence: Evidence) -> dict[str, dict[str, float | None]] | None:
    """Mean win-rate of each contender over each other one; None for a judge of pairs, who knows the baseline's only."""
    scores, runs = evidence.primary.scores, evidence.runs
    if not scores:
        return None

    def win_rate(ours: str, theirs: str) -> float | None:
        return overall_mean(mean_over_seeds(paired_wins(scores[ours], scores[theirs], runs[ours], runs[theirs])))

    return {ours: {theirs: win_rate(ours, theirs) for theirs in runs if theirs != ours} for ours in runs}


def equal_compute_readings(
    qualities: Qualities, contenders: Sequence[ContenderFigures], baseline: str
) -> list[EqualCompute]:
    """Every contender compared with every other family; the baseline may be mixed into each of them."""
    judged = [c for c in contenders if c.name in qualities.points and c.name != baseline]
    families: dict[str, list[str]] = {}
    for contender in judged:
        families.setdefault(contender.family, []).append(contender.name)
    cheap = [baseline] if baseline in qualities.points else []
    readings = []
    for contender in judged:
        cost = qualities.points[contender.name].cost
        for family, members in families.items():
            mix = best_mix(qualities.points, [*cheap, *members], cost) if family != contender.family else None
            gain = qualities.gain(contender.name, mix) if mix else None
            if mix and gain:
                readings.append(EqualCompute(contender.name, family, mix.runs, mix.share, gain, mix.cost < cost))
    return readings
