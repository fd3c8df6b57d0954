"""Plain sampling: the measuring stick. One response, nothing rejected, the reward read once at its end."""

import numpy as np

from pipeline.records import DrawKey, Propose, Response, Score, TokenArray
from pipeline.strategies.task import NO_TOKENS, Task


async def sample_response(task: Task, propose: Propose, lane: int) -> tuple[TokenArray, bool]:
    """One plain response of a lane: its tokens, and whether it ended with an end token."""
    response, finished, segment = NO_TOKENS, False, 0
    while not finished and len(response) < task.sampling.max_new_tokens:
        num_tokens = min(task.knobs.segment_size, task.sampling.max_new_tokens - len(response))
        candidate = await propose(response, num_tokens, DrawKey(segment, 0, lane), lane)
        response, finished = np.concatenate([response, candidate.tokens]), candidate.finished
        segment += 1
    return response, finished


async def vanilla(task: Task, propose: Propose, score: Score) -> Response:
    """One sample from the policy."""
    response, finished = await sample_response(task, propose, lane=0)
    return Response(response, finished, await score(response, finished))
