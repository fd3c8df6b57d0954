"""What the judges say about every contender: scores of single responses, wins of pairs.

A judge of scores gives each response a number, from which wins follow. A judge of pairs only says which of two
responses is better, so it compares each contender with the baseline. What it cannot judge is nan, and counted.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pipeline.errors import InputError
from pipeline.runs.run_rows import Floats, RunRows
from pipeline.runs.text_judge import load_text_judge
from pipeline.runs.wins import seed_pairs, wins

Runs = Mapping[str, Sequence[RunRows]]


class ScoreJudge(Protocol):
    """A score per good row of a run, float64 [R]; nan where it could not judge."""

    def __call__(self, rows: RunRows) -> Floats: ...


class PairJudge(Protocol):
    """1, 0.5 or 0 for each pair of row numbers (ours, theirs), of the same prompt; nan where it could not judge."""

    def __call__(self, ours: RunRows, theirs: RunRows, pairs: Sequence[tuple[int, int]]) -> Floats: ...


@dataclass(frozen=True, slots=True)
class Judged:
    """What one judge says about every contender: `scores` are [seeds, prompts] (none from a judge of pairs), `wins` are
    [pairs of seeds, prompts] against the baseline (its own are ties), `num_unjudged` counts what has no verdict."""

    name: str
    scores: dict[str, Floats]
    wins: dict[str, Floats]
    num_unjudged: dict[str, int]


class Prompts:
    """All prompts that any run answered, in the order of their first run.

    Raises:
        InputError: one id has different prompts in two runs, so they cannot be compared.
    """

    def __init__(self, runs: Runs) -> None:
        self.places: dict[str, int] = {}
        conversations: list[list[dict[str, str]]] = []
        for name, seeds in runs.items():
            for rows in seeds:
                for row_id, conversation in zip(rows.ids, rows.conversations, strict=True):
                    place = self.places.setdefault(row_id, len(conversations))
                    if place == len(conversations):
                        conversations.append(conversation)
                    elif conversations[place] != conversation:
                        raise InputError(
                            f"contenders.{name}: its prompt {row_id!r} is not that of the other contenders; "
                            "runs over different inputs cannot be compared"
                        )
        if not conversations:
            raise InputError("no contender has a response; see `error` in the rows of the runs")

        self.ids = list(self.places)

    def __len__(self) -> int:
        return len(self.ids)

    def spread(self, rows: RunRows, values_R: Floats) -> Floats:
        """A value per row as a value per prompt, [P]; nan where the run has no response."""
        values_P = np.full(len(self.places), np.nan)
        values_P[[self.places[row_id] for row_id in rows.ids]] = values_R
        return values_P

    def spread_seeds(self, runs: Sequence[RunRows], figure: Callable[[RunRows], Floats]) -> Floats:
        """The same for every seed, [S, P]."""
        return np.array([self.spread(rows, figure(rows)) for rows in runs])


def judge_scores(name: str, judge: ScoreJudge, runs: Runs, prompts: Prompts, baseline: str) -> Judged:
    """Score every response; the better score wins."""
    scores = {contender: prompts.spread_seeds(seeds, judge) for contender, seeds in runs.items()}
    base = scores[baseline]
    won = {c: paired_wins(scores[c], base, seeds, runs[baseline]) for c, seeds in runs.items()}
    num_rows = {contender: sum(len(rows.ids) for rows in seeds) for contender, seeds in runs.items()}
    unjudged = {contender: num_rows[contender] - _num_present(scores[contender]) for contender in runs}
    return Judged(name, scores, won | {baseline: _ties(runs[baseline], prompts)}, unjudged)


def paired_wins(
    ours_SP: Floats, theirs_SP: Floats, our_runs: Sequence[RunRows], their_runs: Sequence[RunRows]
) -> Floats:
    """Wins of the scored runs of one contender over another's, [pairs of seeds, prompts]."""
    return np.array([wins(ours_SP[i], theirs_SP[j]) for i, j in run_pairs(our_runs, their_runs)])


def run_pairs(ours: Sequence[RunRows], theirs: Sequence[RunRows]) -> list[tuple[int, int]]:
    """Which runs of two contenders are compared with each other."""
    return seed_pairs([rows.seed for rows in ours], [rows.seed for rows in theirs])


def judge_pairs(name: str, judge: PairJudge, runs: Runs, prompts: Prompts, baseline: str) -> Judged:
    """Compare every contender's responses with the baseline's."""
    won, unjudged = {baseline: _ties(runs[baseline], prompts)}, {baseline: 0}
    for contender, seeds in runs.items():
        if contender != baseline:
            compared = [(seeds[i], runs[baseline][j]) for i, j in run_pairs(seeds, runs[baseline])]
            pairs = [_same_prompts(*both) for both in compared]
            won[contender] = np.array(
                [
                    prompts.spread(ours, _per_row(ours, same, judge(ours, theirs, same)))
                    for (ours, theirs), same in zip(compared, pairs, strict=True)
                ]
            )
            unjudged[contender] = sum(map(len, pairs)) - _num_present(won[contender])
    return Judged(name, {}, won, unjudged)


def _same_prompts(ours: RunRows, theirs: RunRows) -> list[tuple[int, int]]:
    """Row numbers of the prompts that both answered."""
    place_of = {row_id: row for row, row_id in enumerate(theirs.ids)}
    return [(row, place_of[row_id]) for row, row_id in enumerate(ours.ids) if row_id in place_of]


def _per_row(ours: RunRows, pairs: Sequence[tuple[int, int]], values: Floats) -> Floats:
    values_R = np.full(len(ours.ids), np.nan)
    values_R[[row for row, _ in pairs]] = values
    return values_R


def _ties(seeds: Sequence[RunRows], prompts: Prompts) -> Floats:
    """The baseline against itself."""
    return prompts.spread_seeds(seeds, lambda rows: np.full(len(rows.ids), 0.5))


def _num_present(values: Floats) -> int:
    return int((~np.isnan(values)).sum())


def text_judge(name: str) -> ScoreJudge:
    """A judge of TEXT_JUDGES over a run's rows."""
    judge = load_text_judge(name)

    def scores(rows: RunRows) -> Floats:
        both = zip(rows.questions, rows.responses, strict=True)
        return np.array([judge(question, response) for question, response in both], dtype=np.float64)

    return scores
