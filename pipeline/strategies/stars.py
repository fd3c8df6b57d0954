"""STARS: segment-level rejection sampling against a rising reward threshold (arXiv 2511.03827).

until y ends or has n tokens:
    up to M times:  c ~ π(· | x, y), B tokens;  R = r(x, y + c);  accept with probability a(R, τ)
    none accepted:  c = the attempt of highest R
    y = y + c
"""

from dataclasses import replace

import numpy as np

from pipeline.acceptance import ThresholdLine, acceptance_probability, best_candidate
from pipeline.records import DrawKey, Propose, Response, Score, Segment, SegmentRecord, TokenArray
from pipeline.strategies.task import NO_TOKENS, Task, all_of


async def stars(task: Task, propose: Propose, score: Score) -> Response:
    """One response, segment by segment. The prompt is scored while the first candidate is drawn."""
    knobs, n = task.knobs, task.sampling.max_new_tokens
    prompt_reward, first = knobs.reward_threshold, None
    if knobs.alpha < 1:
        opening = propose(NO_TOKENS, min(knobs.segment_size, n), DrawKey(0, 0))
        prompt_reward, first = await all_of([score(NO_TOKENS, False), opening])
    line = ThresholdLine(prompt_reward, knobs.reward_threshold, knobs.alpha, n)
    response, finished, records = NO_TOKENS, False, []
    while not finished and len(response) < n:
        kept, record = await next_segment(task, response, line, len(records), propose, score, first)
        response, finished, first = np.concatenate([response, kept.tokens]), kept.finished, None
        records.append(record)
    return Response(response, finished, records[-1].reward, tuple(records))


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

    `first` is the first attempt's candidate, where it is drawn already.
    """
    num_tokens = min(task.knobs.segment_size, task.sampling.max_new_tokens - len(response))
    rejected: list[tuple[tuple[Segment, SegmentRecord], float]] = []
    for attempt in range(task.knobs.max_attempts):
        key = DrawKey(index, attempt)
        candidate = first if first is not None and attempt == 0 else await propose(response, num_tokens, key)
        reward = await score(np.concatenate([response, candidate.tokens]), candidate.finished)
        threshold = line.at(len(response) + len(candidate.tokens))
        probability = acceptance_probability(reward, threshold, task.knobs.beta)
        record = SegmentRecord(len(candidate.tokens), reward, threshold, probability, attempt + 1, "rule")
        if task.uniform(key) < probability:
            return candidate, record
        rejected.append(((candidate, record), reward))
    (candidate, record), _ = best_candidate(rejected)
    return candidate, replace(record, num_attempts=len(rejected), accepted_by="fallback")
