"""What is there of an answer that has to end before it is finished: its segments so far, as a result of its own."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from actors.coordination.stopping import text_before_stop
from pipeline.records import Judgement, RowResult, SegmentRecord, TokenArray


class UnfinishedAnswer:
    """Follows one answer by what is said of its candidates."""

    def __init__(self) -> None:
        self.kept: list[tuple[Judgement, bool]] = []  # with whether it had been rejected before: the fallback
        self.draws: dict[int, set[int]] = {}  # attempts by segment

    def add(self, judgement: Judgement) -> None:
        """One more candidate was kept or rejected."""
        known = self.draws.setdefault(judgement.segment, set())
        if judgement.is_kept:
            self.kept.append((judgement, judgement.attempt in known))
        known.add(judgement.attempt)

    def result(self, nothing: RowResult, text: Callable[[TokenArray], str], stop: tuple[str, ...]) -> RowResult:
        """The answer as far as it goes, cut off for length: `nothing` with what was kept. What it cost the models is
        not known."""
        if not self.kept:
            return nothing
        last = self.kept[-1][0]
        tokens = np.concatenate([last.response_tokens, last.candidate.tokens])
        return replace(
            nothing,
            finish_reason="stop" if last.candidate.finished else "length",
            response=text_before_stop(text(tokens), stop),
            reward=last.reward,
            num_response_tokens=len(tokens),
            segments=tuple(self._records()),
        )

    def _records(self) -> list[SegmentRecord]:
        return [
            SegmentRecord(
                num_tokens=len(kept.candidate.tokens),
                reward=kept.reward,
                threshold=kept.threshold,
                acceptance_probability=None,
                num_attempts=len(self.draws[kept.segment]),
                accepted_by="fallback" if was_rejected else "rule",
            )
            for kept, was_rejected in self.kept
            if kept.reward is not None
        ]
