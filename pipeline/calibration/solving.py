"""The knobs for a wanted cost: r* by bisection on the simulation, beta as the one that then reaches the most reward."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.calibration.law import TransitionLaw
from pipeline.calibration.simulation import Outcome, simulate
from pipeline.errors import ConfigError
from pipeline.strategy_config import CardsConfig, StarsConfig

Knobs = StarsConfig | CardsConfig
BETAS = (0.0, 0.05, 0.1, 0.2, 0.4)  # of the standard deviation of one segment's change in reward
STEPS = 18
NEAR = 0.02


@dataclass(frozen=True, slots=True)
class Target:
    """What is wanted; costs rise with r*, the acceptance rate falls."""

    name: Literal["policy_tokens", "acceptance_rate"]
    value: float

    def __post_init__(self) -> None:
        most = 1.0 if self.name == "acceptance_rate" else np.inf
        if not 0 < self.value < most:
            raise ConfigError(f"{self.name}: must lie between 0 and {most:g} (given: {self.value:g})")

    def of(self, outcome: Outcome) -> float:
        return outcome.policy_tokens if self.name == "policy_tokens" else outcome.acceptance_rate

    def is_below(self, outcome: Outcome, wanted: float) -> bool:
        """Whether r* must rise for the outcome to be what is wanted."""
        return (self.of(outcome) < wanted) == (self.name == "policy_tokens")


def solve_threshold(law: TransitionLaw, knobs: Knobs, target: Target, wanted: float) -> Knobs:
    """`knobs` with the r*, to four decimals, that gives `wanted` in simulation; the nearest end where none does."""
    rewards = np.concatenate([law.rollouts.prompt_reward_P, law.rollouts.reward_S])
    low, high = float(rewards.min()), float(rewards.max())
    low, high = low - 2 * (high - low), high + 2 * (high - low)
    for _ in range(STEPS):
        middle = (low + high) / 2
        if target.is_below(simulate(law, _at(knobs, middle)), wanted):
            low = middle
        else:
            high = middle
    return _at(knobs, round((low + high) / 2, 4))


def solve(law: TransitionLaw, knobs: Knobs, target: Target) -> Knobs:
    """`reward_threshold` and `beta` for the target, everything else as in `knobs`.

    Raises:
        ConfigError: no threshold reaches it.
    """
    check_reachable(law, knobs, target)
    scale = float(np.std(law.rollouts.reward_S - law.rollouts.before_S))
    softened = [knobs.model_copy(update={"beta": round(scale * beta, 4)}) for beta in BETAS]
    solved = [solve_threshold(law, candidate, target, target.value) for candidate in softened]
    outcomes = [(candidate, simulate(law, candidate)) for candidate in solved]
    misses = [abs(target.of(outcome) / target.value - 1) for _, outcome in outcomes]
    near = max(NEAR, min(misses))  # a hard rule on rewards that repeat can miss by a step
    reached = [pair for pair, miss in zip(outcomes, misses, strict=True) if miss <= near]
    return max(reached, key=lambda pair: pair[1].reward)[0]


def check_reachable(law: TransitionLaw, knobs: Knobs, target: Target) -> None:
    """Between accepting every first attempt and exhausting all of them."""
    hard = knobs.model_copy(update={"beta": 0.0})
    ends = sorted(target.of(simulate(law, _at(hard, threshold))) for threshold in (-1e9, 1e9))
    if not ends[0] < target.value < ends[1]:
        raise ConfigError(
            f"{target.name} = {target.value:g} is out of reach: with {knobs.max_attempts} attempts of "
            f"{knobs.segment_size} tokens it is between {ends[0]:.4g} and {ends[1]:.4g}"
        )


def _at(knobs: Knobs, threshold: float) -> Knobs:
    return knobs.model_copy(update={"reward_threshold": threshold})
