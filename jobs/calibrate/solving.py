"""The knobs for a wanted cost: the search variable by bisection on the simulation, the rest by the highest reward."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from jobs.calibrate.law import TransitionLaw
from jobs.calibrate.search_variable import Knobs, candidates, search_range, with_value
from jobs.calibrate.simulated_outcome import Outcome, simulate
from pipeline.errors import ConfigError

STEPS = 18
NEAR = 0.02


@dataclass(frozen=True, slots=True)
class Target:
    """What is wanted. As the search variable rises, the cost rises and the acceptance rate falls."""

    name: Literal["policy_tokens", "acceptance_rate"]
    value: float

    def __post_init__(self) -> None:
        most = 1.0 if self.name == "acceptance_rate" else np.inf
        if not 0 < self.value < most:
            raise ConfigError(f"{self.name}: must lie between 0 and {most:g} (given: {self.value:g})")

    def of(self, outcome: Outcome) -> float:
        return outcome.policy_tokens if self.name == "policy_tokens" else outcome.acceptance_rate

    def miss(self, outcome: Outcome) -> float:
        """How far an outcome is off, as a fraction of what is wanted."""
        return abs(self.of(outcome) / self.value - 1)

    def is_below(self, outcome: Outcome, wanted: float) -> bool:
        """Whether the search variable must rise to reach what is wanted."""
        return (self.of(outcome) < wanted) == (self.name == "policy_tokens")


def solve_value(law: TransitionLaw, knobs: Knobs, target: Target, wanted: float) -> Knobs:
    """`knobs` with the value that gives `wanted` in simulation, or with the nearest end of the range."""
    low, high = search_range(knobs, law.rollouts)
    for _ in range(STEPS):
        middle = (low + high) / 2
        if target.is_below(simulate(law, with_value(knobs, middle)), wanted):
            low = middle
        else:
            high = middle
    return with_value(knobs, (low + high) / 2)


def solve(law: TransitionLaw, knobs: Knobs, target: Target) -> Knobs:
    """The calibrated knobs for the target, everything else as in `knobs`.

    Raises:
        ConfigError: no threshold reaches it.
    """
    hardest, *softer = candidates(knobs, law.rollouts)
    check_reachable(law, hardest, target)
    solved = [solve_value(law, candidate, target, target.value) for candidate in (hardest, *softer)]
    outcomes = [(candidate, simulate(law, candidate)) for candidate in solved]
    misses = [target.miss(outcome) for _, outcome in outcomes]
    near = max(NEAR, min(misses))  # where rewards repeat, a hard rule can miss by a step
    reached = [pair for pair, miss in zip(outcomes, misses, strict=True) if miss <= near]
    return max(reached, key=lambda pair: pair[1].reward)[0]


def aim(target: Target, probes: Sequence[tuple[Outcome, Outcome]]) -> float:
    """What the simulation must give so that a real run gives the target, from (simulated, measured) outcomes:
    interpolated between the nearest real runs on both sides, or by the ratio of the last run."""
    pairs = sorted((target.of(measured), target.of(simulated)) for simulated, measured in probes)
    below = [pair for pair in pairs if pair[0] <= target.value]
    above = [pair for pair in pairs if pair[0] > target.value]
    if below and above:
        (low, at_low), (high, at_high) = below[-1], above[0]
        return at_low + (target.value - low) / (high - low) * (at_high - at_low)
    simulated, measured = probes[-1]
    return target.value * target.of(simulated) / target.of(measured)


def check_reachable(law: TransitionLaw, knobs: Knobs, target: Target) -> None:
    """Raises ConfigError unless the target lies between accepting every first attempt and exhausting all of them."""
    ends = sorted(target.of(simulate(law, with_value(knobs, value))) for value in search_range(knobs, law.rollouts))
    if not ends[0] < target.value < ends[1]:
        raise ConfigError(
            f"{target.name} = {target.value:g} is out of reach: with {knobs.max_attempts} attempts of "
            f"{knobs.segment_size} tokens it is between {ends[0]:.4g} and {ends[1]:.4g}"
        )
