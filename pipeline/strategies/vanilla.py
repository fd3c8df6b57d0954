"""Plain sampling: the measuring stick. One response, nothing rejected, the reward read once at its end."""

import numpy as np

from pipeline.records import DrawKey, Judgement, Propose, Report, Response, Score, TokenArray
from pipeline.strategies.task import NO_TOKENS, Task, report_nothing


async def sample_response(
    task: Task, propose: Propose, lane: int, report: Report = report_nothing
) -> tuple[TokenArray, bool]:
    """One plain response of a lane: its tokens, and whether it ended with an end token."""
    response, finished, segment = NO_TOKENS, False, 0
    while not finished and len(response) < task.sampling.max_new_tokens:
        num_tokens = min(task.knobs.segment_size, task.sampling.max_new_tokens - len(response))
        candidate = await propose(response, num_tokens, DrawKey(segment, 0, lane), lane)
        report(Judgement(segment, 0, response, candidate, reward=None, threshold=None, is_kept=True))
        response, finished = np.concatenate([response, candidate.tokens]), candidate.finished
        segment += 1
    return response, finished


async def vanilla(task: Task, propose: Propose, score: Score) -> Response:
    """One sample from the policy."""
    response, finished = await sample_response(task, propose, lane=0, report=task.report)
    return Response(response, finished, await score(response, finished))
