"""CARDS: as STARS, but a segment ends before the first token that the policy is unsure of (arXiv 2406.16306).

A candidate has at least `min_segment_size` tokens and at most `segment_size`; between the two it ends before the first
token whose next-token entropy reaches `entropy_threshold`. The line, the rule and the fallback are those of STARS. What
the published code does besides (it looks for no end token and may overshoot the limit) is not done here.
"""

from functools import partial
from typing import Literal

from pydantic import Field

from pipeline.records import EntropyStop, Propose, Response, Score
from pipeline.section import Fraction
from pipeline.strategies.stars import stars
from pipeline.strategies.strategy_section import StrategySection
from pipeline.strategies.task import Task


class CardsConfig(StrategySection):
    """CARDS, arXiv 2406.16306: STARS with segments that end before the first token the policy is unsure of."""

    name: Literal["cards"] = "cards"
    segment_size: int = Field(64, ge=1, description="most tokens in one segment")
    min_segment_size: int = Field(4, ge=1, description="fewest tokens in one segment that does not end the response")
    entropy_threshold: float = Field(
        3.0, gt=0.0, description="a segment ends before a token of at least this entropy (raw softmax), in nats"
    )
    max_attempts: int = Field(21, ge=1, description="proposals of a segment before the best one is kept")
    alpha: Fraction = Field(0.5, description="where the threshold line starts: 0 at the prompt's reward, 1 at r*")
    beta: float = Field(0.7, ge=0.0, description="softness of the rule, in reward units; 0 accepts exactly at or above")
    reward_threshold: float = Field(description="r*, the reward a whole response should reach, in reward units")
    proposals_per_round: int = Field(2, ge=1, description="candidates drawn at once, in slots that no other row wants")

    @property
    def max_draws(self) -> int:
        return max(self.max_attempts, self.proposals_per_round)


async def cards(task: Task, propose: Propose, score: Score) -> Response:
    """One response, one stretch of certainty at a time."""
    stop = EntropyStop(task.knobs.entropy_threshold, task.knobs.min_segment_size)
    return await stars(task, partial(propose, stop=stop), score)
