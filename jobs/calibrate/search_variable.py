"""The search variable of a calibration: one number for each strategy, from the cheapest setting to the most expensive.

stars, cards: r*, in reward units. reservation: −log(price); its transitions are measured first, by least squares.
"""

import math
from typing import Any

import numpy as np

from jobs.calibrate.rollouts import Floats, Rollouts
from pipeline.strategies.cards import CardsConfig
from pipeline.strategies.reservation import ReservationConfig, TransitionConfig, reservation_value
from pipeline.strategies.stars import StarsConfig

Knobs = StarsConfig | CardsConfig | ReservationConfig
BETAS = (0.0, 0.05, 0.1, 0.2, 0.4)  # of the standard deviation of one segment's change in reward
MIN_RECORDS = 60  # rollouts that a position's own transition needs; later positions share the last one
PRICE_STEPS = (
    -2.0,
    10.0,
)  # −log of the price, in standard deviations per segment: the cheapest and the most expensive one
# Stand in for what a config need not say yet, because the calibration finds it.
PLACEHOLDERS: dict[str, dict[str, Any]] = {
    "stars": {"reward_threshold": 0.0},
    "cards": {"reward_threshold": 0.0},
    "reservation": {"price": 1.0, "transitions": [{"intercept": 0.0, "slope": 1.0, "deviation": 1.0}]},
}


def candidates(knobs: Knobs, rollouts: Rollouts) -> list[Knobs]:
    """The settings among which a calibration chooses; for each it searches the value with the wanted cost."""
    if isinstance(knobs, ReservationConfig):
        return [knobs.model_copy(update={"transitions": measured_transitions(rollouts)})]
    scale = float(np.std(rollouts.reward_S - rollouts.before_S))
    return [knobs.model_copy(update={"beta": round(scale * beta, 4)}) for beta in BETAS]


def with_value(knobs: Knobs, value: float) -> Knobs:
    """`knobs` with the search variable at `value`: the higher it is, the fewer proposals are accepted."""
    if isinstance(knobs, ReservationConfig):
        return knobs.model_copy(update={"price": float(f"{math.exp(-value):.4g}")})
    return knobs.model_copy(update={"reward_threshold": round(value, 4)})


def search_range(knobs: Knobs, rollouts: Rollouts) -> tuple[float, float]:
    """Its lowest value accepts every first attempt, its highest exhausts all attempts."""
    if isinstance(knobs, ReservationConfig):
        unit = float(np.std(rollouts.reward_S - rollouts.before_S)) / knobs.segment_size
        return PRICE_STEPS[0] - math.log(unit), PRICE_STEPS[1] - math.log(unit)
    rewards = np.concatenate([rollouts.prompt_reward_P, rollouts.reward_S])
    low, high = float(rewards.min()), float(rewards.max())
    return low - 2 * (high - low), high + 2 * (high - low)


def levels(knobs: ReservationConfig, position: int, reward_A: Floats) -> Floats:
    """The reservation values of responses with `position` tokens, [A]. They are linear in the reward so far."""
    at_0, at_1 = (reservation_value(knobs, position // knobs.segment_size, reward) for reward in (0.0, 1.0))
    return at_0 + (at_1 - at_0) * reward_A


def file_name(knobs: Knobs) -> str:
    """A name that differs for any two settings of one calibration."""
    if isinstance(knobs, ReservationConfig):
        return f"price-{knobs.price:g}"
    return f"{knobs.reward_threshold:g}-{knobs.beta:g}"


def formatted(knobs: Knobs) -> str:
    """The calibrated figures, for one line of text."""
    if isinstance(knobs, ReservationConfig):
        return f"price {knobs.price:.4g}"
    return f"r* {knobs.reward_threshold:.4g}, beta {knobs.beta:.4g}"


def measured_transitions(rollouts: Rollouts) -> tuple[TransitionConfig, ...]:
    """One law for each segment position with enough rollouts; at least one."""
    places = rollouts.position_S // rollouts.step_tokens
    laws: list[TransitionConfig] = []
    for place in range(int(places.max()) + 1):
        chosen = places == place
        if laws and chosen.sum() < MIN_RECORDS:
            break
        before, after = rollouts.before_S[chosen], rollouts.reward_S[chosen]
        slope = float(np.cov(before, after)[0, 1] / np.var(before, ddof=1)) if np.ptp(before) else 0.0
        intercept = float(after.mean() - slope * before.mean())
        deviation = float(np.std(after - intercept - slope * before))
        laws.append(
            TransitionConfig(
                intercept=round(intercept, 4), slope=round(slope, 4), deviation=max(round(deviation, 4), 1e-4)
            )
        )
    return tuple(laws)
