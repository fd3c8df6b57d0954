"""Best-of-N: n whole responses drawn independently, the one of highest reward kept (ties: the earliest)."""

from typing import Literal

from pydantic import Field

from pipeline.records import Judgement, Propose, Response, Score, Segment, TokenArray
from pipeline.strategies.acceptance import best_candidate
from pipeline.strategies.strategy_section import StrategySection
from pipeline.strategies.task import NO_TOKENS, Task, all_of
from pipeline.strategies.vanilla import sample_response


class BestOfNConfig(StrategySection):
    """Best-of-N: N whole responses, the one of highest reward is kept."""

    name: Literal["best_of_n"] = "best_of_n"
    n: int = Field(8, ge=1, description="responses drawn per prompt")
    segment_size: int = Field(16, ge=1, description="tokens per model call; changes no draw within a segment")

    @property
    def num_lanes(self) -> int:
        return self.n

    @property
    def max_draws(self) -> int:
        return self.n


async def best_of_n(task: Task, propose: Propose, score: Score) -> Response:
    """Lane i draws response i; the lanes share the prompt's cache."""

    async def lane_response(lane: int) -> tuple[tuple[TokenArray, bool], float]:
        response, finished = await sample_response(task, propose, lane)
        return (response, finished), await score(response, finished, lane)

    candidates = await all_of(lane_response(lane) for lane in range(task.knobs.n))
    (tokens, finished), reward = best_candidate(candidates)
    for lane, ((candidate, ended), its_reward) in enumerate(candidates):
        is_kept = candidate is tokens
        task.report(Judgement(0, lane, NO_TOKENS, Segment(candidate, ended), its_reward, None, is_kept))
    return Response(tokens, finished, reward, candidates=tuple((c[0], r) for c, r in candidates))
