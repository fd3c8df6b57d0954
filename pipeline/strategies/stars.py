"""STARS: segment-level rejection sampling against a rising reward threshold (arXiv 2511.03827).

until y ends or has n tokens:
    up to M times:  c ~ π(· | x, y), B tokens;  R = r(x, y + c);  accept with probability a(R, τ)
    none accepted:  c = the attempt of highest R
    y = y + c
"""

from contextlib import aclosing
from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import Field

from pipeline.records import DrawKey, Judgement, Propose, Response, Score, Segment, SegmentRecord, TokenArray
from pipeline.section import Fraction
from pipeline.strategies.acceptance import Threshold, ThresholdLine, acceptance_probability, best_candidate
from pipeline.strategies.strategy_section import StrategySection
from pipeline.strategies.task import NO_TOKENS, Task, all_of, in_order


class StarsConfig(StrategySection):
    """STARS, arXiv 2511.03827; the knobs keep the paper's names."""

    name: Literal["stars"] = "stars"
    segment_size: int = Field(16, ge=1, description="tokens in one segment (B)")
    max_attempts: int = Field(20, ge=1, description="proposals of a segment before the best one is kept (M)")
    alpha: Fraction = Field(0.5, description="where the threshold line starts: 0 at the prompt's reward, 1 at r*")
    beta: float = Field(0.7, ge=0.0, description="softness of the rule, in reward units; 0 accepts exactly at or above")
    reward_threshold: float = Field(description="r*, the reward a whole response should reach, in reward units")
    proposals_per_round: int = Field(
        2,
        ge=1,
        description="candidates of a segment drawn at once, in slots that no other row wants; they are judged in draw "
        "order, so no response changes: less waiting for more tokens",
    )

    @property
    def max_draws(self) -> int:
        return max(self.max_attempts, self.proposals_per_round)


async def stars(task: Task, propose: Propose, score: Score) -> Response:
    """One response, segment by segment."""
    knobs, n = task.knobs, task.sampling.max_new_tokens
    prompt_reward, drawn = await start_response(task, propose, score)
    line = ThresholdLine(prompt_reward, knobs.reward_threshold, knobs.alpha, n)
    first_proposal: Segment | None = drawn
    response, finished, records = NO_TOKENS, False, list[SegmentRecord]()
    while not finished and len(response) < n:
        kept, record = await next_segment(task, response, line, len(records), propose, score, first_proposal)
        response, finished, first_proposal = np.concatenate([response, kept.tokens]), kept.finished, None
        records.append(record)
    return Response(response, finished, records[-1].reward, tuple(records), prompt_reward=prompt_reward)


async def start_response(task: Task, propose: Propose, score: Score) -> tuple[float, Segment]:
    """The prompt's reward and the first candidate, which is drawn beside it. Even where no rule needs that reward,
    it is worth asking for: the reward model has then read the prompt when the candidate comes."""
    num_tokens = min(task.knobs.segment_size, task.sampling.max_new_tokens)
    prompt_reward, first_proposal = await all_of(
        [score(NO_TOKENS, False), propose(NO_TOKENS, num_tokens, DrawKey(0, 0))]
    )
    return prompt_reward, first_proposal


async def next_segment(
    task: Task,
    response: TokenArray,
    line: Threshold,
    index: int,
    propose: Propose,
    score: Score,
    first_proposal: Segment | None = None,
) -> tuple[Segment, SegmentRecord]:
    """The segment that continues `response`, with the record of how it was chosen.

    Up to `proposals_per_round` attempts are under way at once; they are judged in the order of their draws, so the
    law is that of one at a time. `first_proposal` is the first attempt's candidate where it is drawn already.
    """
    knobs = task.knobs
    num_tokens = min(knobs.segment_size, task.sampling.max_new_tokens - len(response))

    async def attempt(number: int, lane: int) -> tuple[Segment, float]:
        drawn = first_proposal if number == 0 else None
        candidate = drawn or await propose(response, num_tokens, DrawKey(index, number), lane)
        return candidate, await score(np.concatenate([response, candidate.tokens]), candidate.finished, lane)

    rejected: list[tuple[tuple[Segment, SegmentRecord], float]] = []
    async with aclosing(in_order(attempt, knobs.max_attempts, knobs.proposals_per_round, task.lanes)) as attempts:
        async for candidate, reward in attempts:
            number = len(rejected)
            threshold = line.at(len(response) + len(candidate.tokens))
            probability = acceptance_probability(reward, threshold, knobs.beta)
            record = SegmentRecord(len(candidate.tokens), reward, threshold, probability, number + 1, "rule")
            is_kept = task.uniform(DrawKey(index, number)) < probability
            task.report(Judgement(index, number, response, candidate, reward, threshold, is_kept))
            if is_kept:
                return candidate, record
            rejected.append(((candidate, record), reward))
    (candidate, record), reward = best_candidate(rejected)
    task.report(Judgement(index, record.num_attempts - 1, response, candidate, reward, record.threshold, is_kept=True))
    return candidate, replace(record, num_attempts=len(rejected), accepted_by="fallback")
