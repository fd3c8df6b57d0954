"""From runs and judgements to the figures of a comparison: arithmetic on columns, seeded."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from jobs.compare.figures.disagreements import find_disagreements, hacked
from jobs.compare.figures.equal_compute import frontier
from jobs.compare.figures.evidence import Evidence
from jobs.compare.figures.ranks import spearman
from jobs.compare.figures.readings import Qualities, equal_compute_readings, win_matrix
from jobs.compare.figures.records import CompareFigures, ContenderFigures, JudgeFigures
from jobs.compare.figures.resampling import Estimate, mean_over_seeds, overall_mean
from jobs.compare.figures.segments import overall_rates, segment_figures
from jobs.compare.judges.judgements import Judged
from pipeline.runs.run_rows import RunRows
from pipeline.runs.wins import shares_draws

COSTS = ("policy_tokens", "reward_tokens", "policy_calls", "reward_calls", "response_tokens")


def analyse(evidence: Evidence) -> CompareFigures:
    """All figures."""
    contenders = [_contender(evidence, name) for name in evidence.runs]
    qualities = Qualities.of(evidence, contenders)
    best = frontier(qualities.points)
    return CompareFigures(
        baseline=evidence.baseline,
        primary_judge=evidence.primary.name,
        judge_kinds=evidence.judge_kinds,
        num_prompts=len(evidence.prompts),
        bootstrap_draws=evidence.resampler.num_draws,
        bootstrap_seed=evidence.resampler.seed,
        contenders=tuple(
            replace(c, on_frontier=c.name in best, behind_best=qualities.behind_best(c.name)) for c in contenders
        ),
        win_matrix=win_matrix(evidence),
        equal_compute=tuple(equal_compute_readings(qualities, contenders, evidence.baseline)),
        disagreements=tuple(found for name in evidence.runs for found in find_disagreements(evidence, name)),
    )


def _contender(evidence: Evidence, name: str) -> ContenderFigures:
    runs, seeds = evidence.runs[name], [rows.seed for rows in evidence.runs[name]]
    errors: Counter[str] = Counter()
    for rows in runs:
        errors.update(rows.error_rows_by_type)
    facts, is_baseline = runs[0].facts, name == evidence.baseline
    segments = segment_figures(runs)
    acceptance_rate, fallback_fraction = overall_rates(segments)
    return ContenderFigures(
        name=name,
        family=_family(evidence, name),
        strategy=facts.strategy,
        policy=facts.policy_name,
        outputs=tuple(rows.output for rows in runs),
        seeds=tuple(seeds),
        shares_draws_with_baseline=not is_baseline
        and shares_draws(seeds, [rows.seed for rows in evidence.runs[evidence.baseline]]),
        num_responses=sum(len(rows.ids) for rows in runs),
        num_error_rows=errors.total(),
        error_rows_by_type=dict(sorted(errors.items())),
        judges={judged.name: _judge_figures(evidence, judged, name) for judged in evidence.judged.values()},
        **_costs(evidence, runs),
        stopped_fraction=overall_mean(np.concatenate([rows.is_stopped.astype(np.float64) for rows in runs])),
        acceptance_rate=acceptance_rate,
        fallback_fraction=fallback_fraction,
        segments=segments,
        reward_judge_correlation=_correlation(evidence, name),
        hacked_fraction=None if is_baseline else overall_mean(hacked(evidence, name)),
    )


def _family(evidence: Evidence, name: str) -> str:
    policies = {runs[0].facts.policy_name for runs in evidence.runs.values()}
    facts = evidence.runs[name][0].facts
    strategy = str(facts.strategy["name"])
    return strategy if len(policies) == 1 else f"{strategy} on {facts.policy_name}"


def _costs(evidence: Evidence, runs: Sequence[RunRows]) -> dict[str, Estimate | None]:
    values = [
        mean_over_seeds(evidence.prompts.spread_seeds(runs, lambda rows, cost=cost: rows.figure(f"num_{cost}")))
        for cost in COSTS
    ]
    return dict(zip(COSTS, evidence.resampler.estimates(values), strict=True))


def _judge_figures(evidence: Evidence, judged: Judged, name: str) -> JudgeFigures:
    scores, wins, base = judged.scores.get(name), judged.wins.get(name), judged.scores.get(evidence.baseline)
    nothing = np.full(len(evidence.prompts), np.nan)
    mean_scores = nothing if scores is None else mean_over_seeds(scores)
    mean_wins = nothing if wins is None else mean_over_seeds(wins)
    is_scored = scores is not None and base is not None and wins is not None
    difference = mean_scores - mean_over_seeds(base) if is_scored else nothing
    score, win_rate, gain = evidence.resampler.estimates([mean_scores, mean_wins, difference])
    by_seed = scores if scores is not None else wins
    return JudgeFigures(
        score=score,
        win_rate=win_rate,
        tie_fraction=None if wins is None else overall_mean(np.where(np.isnan(wins), np.nan, wins == 0.5)),
        difference=gain,
        by_seed=() if by_seed is None else tuple(overall_mean(values) for values in by_seed),
        num_unjudged=judged.num_unjudged.get(name, 0),
    )


def _correlation(evidence: Evidence, name: str) -> float | None:
    scores = evidence.primary.scores.get(name)
    if scores is None or evidence.primary is evidence.reward:
        return None
    return spearman(evidence.reward.scores[name].ravel(), scores.ravel())
