"""Plain sampling: the measuring stick. One response, nothing rejected, the reward read once at its end."""

from typing import Literal

import numpy as np
from pydantic import Field

from pipeline.records import DrawKey, Judgement, Propose, Report, Response, Score, TokenArray
from pipeline.strategies.strategy_section import StrategySection
from pipeline.strategies.task import NO_TOKENS, Task, report_nothing


class VanillaConfig(StrategySection):
    """Plain sampling: one response, nothing rejected. Its reward is measured once, at the end."""

    name: Literal["vanilla"] = "vanilla"
    segment_size: int = Field(16, ge=1, description="tokens per model call; changes no draw within a segment")

    @property
    def max_draws(self) -> int:
        return 1


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
