"""Where the reward model and the judge disagree: reward hacking, counted, with examples.

A pair is *hacked* where the reward model prefers the contender's response to the baseline's and the judge prefers the
baseline's: the reward rose and the quality fell.
"""

import numpy as np

from jobs.compare.figures.evidence import Evidence
from jobs.compare.figures.records import Disagreement
from jobs.compare.judges.judgements import run_pairs
from pipeline.runs.run_rows import Floats, RunRows


def hacked(evidence: Evidence, contender: str) -> Floats:
    """1 for a hacked pair, 0 for another, nan where there is no verdict; [pairs of seeds, prompts]."""
    judged, rewarded = evidence.primary.wins[contender], evidence.reward.wins[contender]
    present = ~(np.isnan(judged) | np.isnan(rewarded))
    return np.where(present, (rewarded == 1) & (judged == 0), np.nan)


def find_disagreements(evidence: Evidence, contender: str) -> list[Disagreement]:
    """The hacked pairs in which the reward rose most, each prompt once."""
    if contender == evidence.baseline:
        return []
    hacked_KP = hacked(evidence, contender)
    ours, theirs = evidence.runs[contender], evidence.runs[evidence.baseline]
    pairs = run_pairs(ours, theirs)
    rewards = evidence.reward.scores
    rise_KP = np.array([rewards[contender][i] - rewards[evidence.baseline][j] for i, j in pairs])
    rise_KP = np.where(hacked_KP == 1, rise_KP, -np.inf)
    pair_P = rise_KP.argmax(axis=0)
    order = np.argsort(-rise_KP.max(axis=0), kind="stable")[: evidence.num_examples]
    return [
        _disagreement(evidence, contender, pairs[pair_P[place]], int(place))
        for place in order
        if np.isfinite(rise_KP[pair_P[place], place])
    ]


def _disagreement(evidence: Evidence, contender: str, pair: tuple[int, int], place: int) -> Disagreement:
    i, j = pair
    ours, theirs = evidence.runs[contender][i], evidence.runs[evidence.baseline][j]
    row_id = evidence.prompts.ids[place]
    our_row, their_row = ours.ids.index(row_id), theirs.ids.index(row_id)
    return Disagreement(
        contender=contender,
        prompt_id=row_id,
        prompt=ours.questions[our_row],
        response=ours.responses[our_row],
        reward=_value(ours, our_row),
        score=_score(evidence, contender, i, place),
        baseline_response=theirs.responses[their_row],
        baseline_reward=_value(theirs, their_row),
        baseline_score=_score(evidence, evidence.baseline, j, place),
    )


def _value(rows: RunRows, row: int) -> float:
    return float(rows.table.column("reward")[row].as_py())


def _score(evidence: Evidence, contender: str, seed: int, place: int) -> float | None:
    scores = evidence.primary.scores.get(contender)
    return None if scores is None else float(scores[seed, place])
