"""What a row asks of a model, as it travels: requests, the arrays of a cohort of them, and their answers.

Invariant: every token that a model pushes is charged to the ledger of the row that asked for it, kept or not.
"""

import asyncio
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.errors import RowError
from pipeline.protocol import Proposals, ProposeCohort, ScoreCohort, Scores
from pipeline.records import DrawKey, EntropyStop, PromptRow, SamplingParams, Segment, TokenArray


@dataclass(slots=True)
class Ledger:
    """What one row has cost so far, and how many of its requests are with a model now."""

    policy_tokens: int = 0
    reward_tokens: int = 0
    policy_calls: int = 0
    reward_calls: int = 0
    num_under_way: int = 0
    _is_settled: asyncio.Event = field(default_factory=asyncio.Event)

    async def settled(self) -> None:
        """Wait until the cost of cancelled requests that a model had begun is known too."""
        while self.num_under_way:
            self._is_settled.clear()
            await self._is_settled.wait()

    def end_request(self) -> None:
        self.num_under_way -= 1
        self._is_settled.set()


@dataclass(slots=True, eq=False)
class ProposeRequest:
    slot: int
    prefix: TokenArray
    num_tokens: int
    row_key: int
    draw: DrawKey
    sampling: SamplingParams
    ledger: Ledger
    answer: "asyncio.Future[Segment]"
    stop: EntropyStop | None = None
    submitted_s: float = 0.0


@dataclass(slots=True, eq=False)
class ScoreRequest:
    """`response` is the policy's tokens without what ended them, `text` the same where the reward reads text; it may
    still grow by `room` tokens."""

    slot: int
    row: PromptRow
    response: TokenArray
    text: str | None
    finished: bool
    room: int
    ledger: Ledger
    answer: "asyncio.Future[float]"
    submitted_s: float = 0.0


def propose_cohort(requests: list[ProposeRequest], first_slot: int) -> ProposeCohort:
    """Lay requests out as the arrays that cross to the policy whose first slot in the cell is `first_slot`."""
    return ProposeCohort(
        slots_R=np.array([r.slot - first_slot for r in requests], dtype=np.int32),
        prefix_tokens=np.concatenate([r.prefix for r in requests]),
        prefix_lengths_R=np.array([len(r.prefix) for r in requests], dtype=np.int32),
        num_tokens_R=np.array([r.num_tokens for r in requests], dtype=np.int32),
        row_keys_R=np.array([r.row_key for r in requests], dtype=np.int64),
        draw_keys_R3=np.array([(r.draw.lane, r.draw.segment, r.draw.attempt) for r in requests], dtype=np.int64),
        temperature_R=np.array([r.sampling.temperature for r in requests], dtype=np.float32),
        top_p_R=np.array([r.sampling.top_p for r in requests], dtype=np.float32),
        top_k_R=np.array([r.sampling.top_k for r in requests], dtype=np.int32),
        **_entropy_stops(requests),
    )


def _entropy_stops(requests: list[ProposeRequest]) -> dict[str, Any]:
    if all(request.stop is None for request in requests):
        return {}
    stops = [request.stop or EntropyStop(math.inf, 0) for request in requests]
    return {
        "stop_entropy_R": np.array([stop.threshold for stop in stops], dtype=np.float32),
        "stop_after_R": np.array([stop.min_tokens for stop in stops], dtype=np.int32),
    }


def score_cohort(requests: list[ScoreRequest], first_slot: int) -> ScoreCohort:
    """Lay requests out as the arrays that cross to the reward model whose first slot in the cell is `first_slot`."""
    return ScoreCohort(
        slots_R=np.array([r.slot - first_slot for r in requests], dtype=np.int32),
        rows=tuple(r.row for r in requests),
        response_tokens=np.concatenate([r.response for r in requests]),
        response_lengths_R=np.array([len(r.response) for r in requests], dtype=np.int32),
        finished_R=np.array([r.finished for r in requests], dtype=np.bool_),
        room_R=np.array([r.room for r in requests], dtype=np.int32),
        texts=tuple(r.text or "" for r in requests) if requests[0].text is not None else None,
    )


def answer_proposals(requests: list[ProposeRequest], proposals: Proposals) -> None:
    """Give every row its segment and charge its ledger."""
    for i, request in enumerate(requests):
        request.ledger.policy_calls += 1
        request.ledger.policy_tokens += int(proposals.stats.pushed_tokens_R[i])
        if request.answer.done():
            continue
        if proposals.invalid_R is not None and proposals.invalid_R[i]:
            request.answer.set_exception(RowError("non_finite_logits", "the policy gave logits that are not finite"))
        else:
            tokens = proposals.tokens_RT[i, : proposals.lengths_R[i]]
            request.answer.set_result(Segment(tokens, bool(proposals.finished_R[i])))


def answer_scores(requests: list[ScoreRequest], scores: Scores) -> None:
    """Give every row its reward, or its fault, and charge its ledger. What is no finite number is a fault too."""
    for i, request in enumerate(requests):
        request.ledger.reward_calls += 1
        request.ledger.reward_tokens += int(scores.stats.pushed_tokens_R[i])
        if request.answer.done():
            continue
        if i in scores.faults:
            request.answer.set_exception(RowError(*scores.faults[i]))
        elif not math.isfinite(scores.rewards_R[i]):
            request.answer.set_exception(RowError("non_finite_reward", f"the reward gave {scores.rewards_R[i]}"))
        else:
            request.answer.set_result(float(scores.rewards_R[i]))
