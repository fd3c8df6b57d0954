"""Blockwise best-of-K: every segment is the best of K continuations (controlled decoding, ICML 2024).

until y ends or has n tokens:  c_1 … c_K ~ π(· | x, y), B tokens each;  y = y + the c of highest r(x, y + c)
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from pipeline.records import DrawKey, Judgement, Propose, Response, Score, Segment, SegmentRecord, TokenArray
from pipeline.strategies.acceptance import best_candidate
from pipeline.strategies.strategy_section import StrategySection
from pipeline.strategies.task import NO_TOKENS, Task, all_of


class BlockwiseBestOfKConfig(StrategySection):
    """Blockwise best-of-K: every segment is the best of K candidates."""

    name: Literal["blockwise_best_of_k"] = "blockwise_best_of_k"
    segment_size: int = Field(16, ge=1, description="tokens in one segment")
    k: int = Field(4, ge=1, description="candidates of each segment")

    @property
    def num_lanes(self) -> int:
        return self.k

    @property
    def max_draws(self) -> int:
        return self.k


async def blockwise_best_of_k(task: Task, propose: Propose, score: Score) -> Response:
    """One response, segment by segment, K candidates each."""
    return await best_of_blocks(task, propose, score, [task.knobs.k] * task.sampling.max_new_tokens)


async def best_of_blocks(task: Task, propose: Propose, score: Score, schedule: Sequence[int]) -> Response:
    """One response; its segment i is the best of `schedule[i]` candidates."""
    response, finished, records = NO_TOKENS, False, list[SegmentRecord]()
    while not finished and len(response) < task.sampling.max_new_tokens:
        kept, reward = await best_segment(task, response, len(records), schedule[len(records)], propose, score)
        response, finished = np.concatenate([response, kept.tokens]), kept.finished
        records.append(SegmentRecord(len(kept.tokens), reward, None, None, schedule[len(records)], "rule"))
    return Response(response, finished, records[-1].reward, tuple(records))


async def best_segment(
    task: Task, response: TokenArray, index: int, count: int, propose: Propose, score: Score
) -> tuple[Segment, float]:
    """The best of `count` continuations (ties: the earliest). As many are drawn at once as the row has lanes, but never
    in the lane of the best so far, whose cache the next segment goes on from."""
    num_tokens = min(task.knobs.segment_size, task.sampling.max_new_tokens - len(response))

    async def draw(number: int, lane: int) -> tuple[tuple[int, int, Segment], float]:
        candidate = await propose(response, num_tokens, DrawKey(index, number), lane)
        reward = await score(np.concatenate([response, candidate.tokens]), candidate.finished, lane)
        return (number, lane, candidate), reward

    judged = list[tuple[tuple[int, int, Segment], float]]()
    while len(judged) < count:
        best_lane = best_candidate(judged)[0][1] if judged else None
        lanes = [lane for lane in range(task.knobs.num_lanes) if lane != best_lane]
        judged += await all_of(
            draw(number, lane) for number, lane in zip(range(len(judged), count), lanes, strict=False)
        )
    (kept_number, _, kept), best_reward = best_candidate(judged)
    for (number, _, candidate), reward in judged:
        task.report(Judgement(index, number, response, candidate, reward, None, number == kept_number))
    return kept, best_reward
