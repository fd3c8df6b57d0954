"""The three formulas of STARS, each in its one place: the threshold line, the acceptance rule, the fallback.

Source: arXiv 2511.03827 for the five knobs; the exact line, the soft rule and the fallback are those of CARDS
(arXiv 2406.16306), whose knobs STARS shares. All rewards are in units of the reward model.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

T = TypeVar("T")


class Threshold(Protocol):
    """What a candidate's reward should reach."""

    def at(self, num_response_tokens: int) -> float:
        """For a response of so many tokens, the candidate segment included."""
        ...


@dataclass(frozen=True, slots=True)
class ThresholdLine:
    """τ(t) = min(r*, r0 + t · (r* − r0) / n), with r0 = (1 − alpha) · r(x, "") + alpha · r*.

    Args:
        prompt_reward: r(x, ""), the reward of the prompt with an empty response; unused when alpha is 1.
        reward_threshold: r*.
        alpha: where the line starts, 0 at the prompt's reward, 1 at r*.
        max_new_tokens: n, where the line reaches r*.
    """

    prompt_reward: float
    reward_threshold: float
    alpha: float
    max_new_tokens: int

    def at(self, num_response_tokens: int) -> float:
        """The threshold for a response of t tokens, the candidate segment included."""
        start = (1 - self.alpha) * self.prompt_reward + self.alpha * self.reward_threshold
        slope = (self.reward_threshold - start) / self.max_new_tokens
        return min(self.reward_threshold, start + num_response_tokens * slope)


def acceptance_probability(reward: float, threshold: float, beta: float) -> float:
    """min(1, exp((R − τ) / beta)); with beta 0, exactly whether R ≥ τ."""
    if reward >= threshold:
        return 1.0
    return math.exp((reward - threshold) / beta) if beta > 0 else 0.0


def best_candidate(candidates: Sequence[tuple[T, float]]) -> tuple[T, float]:
    """The fallback: of all (candidate, reward) pairs the one of highest reward, the earliest on a tie."""
    return max(candidates, key=lambda pair: pair[1])
