"""Owns what a row keeps of its candidates when the config says `keep_rejected`: every judgement, as text.

Invariants: one record per candidate, in the order of judging, a fallback's once and as kept; all candidates for one
place have the same `response_so_far`; the kept ones' texts, joined, are the response.
"""

from collections.abc import Callable

import numpy as np

from actors.coordination.stopping import HALF_CHARACTER
from pipeline.records import CandidateRecord, Judgement, Report, TokenArray


class CandidateLog:
    """A strategy's report that remembers, and passes everything on to the next one."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._judgements: dict[tuple[int, int, bytes, bytes], Judgement] = {}

    def __call__(self, judgement: Judgement) -> None:
        place, tokens = judgement.response_tokens.tobytes(), judgement.candidate.tokens.tobytes()
        self._judgements[judgement.segment, judgement.attempt, place, tokens] = judgement
        self._report(judgement)

    def records(self, text: Callable[[TokenArray], str]) -> tuple[CandidateRecord, ...]:
        """The candidates; `text` turns response tokens into text."""
        return tuple(_record(judgement, text) for judgement in self._judgements.values())


def _record(judgement: Judgement, text: Callable[[TokenArray], str]) -> CandidateRecord:
    """Text is cut where a whole character begins: a candidate that completes one gets all of it."""
    candidate = judgement.candidate
    so_far = text(judgement.response_tokens).rstrip(HALF_CHARACTER)
    whole = text(np.concatenate([judgement.response_tokens, candidate.tokens]))
    if not candidate.finished:
        whole = whole.rstrip(HALF_CHARACTER)
    return CandidateRecord(
        segment=judgement.segment,
        attempt=judgement.attempt,
        response_so_far=so_far,
        text=whole.removeprefix(so_far) if whole.startswith(so_far) else text(candidate.tokens),
        finished=candidate.finished,
        reward=judgement.reward,
        threshold=judgement.threshold,
        is_kept=judgement.is_kept,
    )
