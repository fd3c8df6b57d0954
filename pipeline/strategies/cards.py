"""CARDS: as STARS, but a segment ends before the first token that the policy is unsure of (arXiv 2406.16306).

A candidate has at least `min_segment_size` tokens and at most `segment_size`; between the two it ends before the first
token whose next-token entropy reaches `entropy_threshold`. The line, the rule and the fallback are those of STARS. What
the published code does besides (it looks for no end token and may overshoot the limit) is not done here.
"""

from functools import partial

from pipeline.records import EntropyStop, Propose, Response, Score
from pipeline.strategies.stars import stars
from pipeline.strategies.task import Task


async def cards(task: Task, propose: Propose, score: Score) -> Response:
    """One response, one stretch of certainty at a time."""
    stop = EntropyStop(task.knobs.entropy_threshold, task.knobs.min_segment_size)
    return await stars(task, partial(propose, stop=stop), score)
