"""STARS: segment-level rejection sampling against a rising reward threshold (arXiv 2511.03827).

until y ends or has n tokens:
    up to M times:  c ~ π(· | x, y), B tokens;  R = r(x, y + c);  accept with probability a(R, τ)
    none accepted:  c = the attempt of highest R
    y = y + c
"""

from contextlib import aclosing
from dataclasses import replace

import numpy as np

from pipeline.records import DrawKey, Judgement, Propose, Response, Score, Segment, SegmentRecord, TokenArray
from pipeline.strategies.acceptance import ThresholdLine, acceptance_probability, best_candidate
from pipeline.strategies.task import NO_TOKENS, Task, all_of, in_order


async def stars(task: Task, propose: Propose, score: Score) -> Response:
    """One response, segment by segment."""
    knobs, n = task.knobs, task.sampling.max_new_tokens
    prompt_reward, first = await opened(task, propose, score)
    line = ThresholdLine(prompt_reward, knobs.reward_threshold, knobs.alpha, n)
    response, finished, records = NO_TOKENS, False, []
    while not finished and len(response) < n:
        kept, record = await next_segment(task, response, line, len(records), propose, score, first)
        response, finished, first = np.concatenate([response, kept.tokens]), kept.finished, None
        records.append(record)
    return Response(response, finished, records[-1].reward, tuple(records))


async def opened(task: Task, propose: Propose, score: Score) -> tuple[float, Segment]:
    """The prompt's reward, and the first candidate, which is drawn meanwhile. Even where no rule needs that reward, the
    reward model has then read the prompt when the candidate comes."""
    num_tokens = min(task.knobs.segment_size, task.sampling.max_new_tokens)
    prompt_reward, first = await all_of([score(NO_TOKENS, False), propose(NO_TOKENS, num_tokens, DrawKey(0, 0))])
    return prompt_reward, first


async def next_segment(
    task: Task,
    response: TokenArray,
    line: ThresholdLine,
    index: int,
    propose: Propose,
    score: Score,
    first: Segment | None = None,
) -> tuple[Segment, SegmentRecord]:
    """The segment that continues `response`, with the record of how it was chosen.

    Up to `proposals_per_round` attempts are under way at once; they are judged in the order of their draws, so the
    law is that of one at a time. `first` is the first attempt's candidate, where it is drawn already.
    """
    knobs = task.knobs
    num_tokens = min(knobs.segment_size, task.sampling.max_new_tokens - len(response))

    async def attempt(number: int, lane: int) -> tuple[Segment, float]:
        opened = first if number == 0 else None
        candidate = opened or await propose(response, num_tokens, DrawKey(index, number), lane)
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
