"""Plain rollouts with the reward at every segment boundary, as arrays.

They come from an ordinary run with `max_attempts: 1`, in which every proposal is kept whatever the threshold says.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.config.align import AlignConfig
from pipeline.errors import ConfigError, InputError
from pipeline.strategies.cards import CardsConfig
from pipeline.strategies.reservation import ReservationConfig
from pipeline.strategies.stars import StarsConfig

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
MIN_ROLLOUTS = 20


@dataclass(frozen=True, slots=True)
class Rollouts:
    """S segments of P prompts. `before_S` is the reward at a segment's start, `reward_S` at its end; `position_S` the
    response tokens before it. `overhead_tokens` is what a row pushes through the policy besides its proposals."""

    row_S: Ints
    position_S: Ints
    before_S: Floats
    reward_S: Floats
    num_tokens_S: Ints
    finished_S: Bools
    prompt_reward_P: Floats
    max_new_tokens_P: Ints
    overhead_tokens: float

    @property
    def step_tokens(self) -> int:
        """Tokens of a segment that does not end its response, by the median."""
        going_on = self.num_tokens_S[~self.finished_S]
        return max(1, int(np.median(going_on if len(going_on) else self.num_tokens_S)))


def rollout_config(config: AlignConfig) -> AlignConfig:
    """The same job without a second attempt.

    Raises:
        ConfigError: the strategy has no threshold.
    """
    knobs = config.strategy
    if isinstance(knobs, ReservationConfig):
        knobs = StarsConfig(segment_size=knobs.segment_size, reward_threshold=0.0)
    if not isinstance(knobs, StarsConfig | CardsConfig):
        names = "stars, cards and reservation"
        raise ConfigError(f"strategy.name: only {names} have a threshold to calibrate (given: {knobs.name!r})")
    once = {"max_attempts": 1, "alpha": 0.0, "beta": 0.0, "reward_threshold": 0.0, "proposals_per_round": 1}
    return config.model_copy(update={"strategy": knobs.model_copy(update=once)})


@dataclass(frozen=True, slots=True)
class RolloutRow:
    """One row of the run: its segment records as mappings, whether it ended by itself, what it pushed through the
    policy, the reward of its prompt, and how long it could have been."""

    segments: Sequence[Mapping[str, Any]]
    is_stopped: bool
    policy_tokens: float
    prompt_reward: float
    max_new_tokens: int


def gather_rollouts(rows: Iterable[RolloutRow]) -> Rollouts:
    """The rows as arrays.

    Raises:
        InputError: they are too few.
    """
    segments: list[tuple[int, int, float, float, int, bool]] = []
    prompts: list[tuple[float, int, float]] = []
    for number, row in enumerate(rows):
        before, position = row.prompt_reward, 0
        for record in row.segments:
            ends = row.is_stopped and record is row.segments[-1]
            segments.append((number, position, before, record["reward"], record["num_tokens"], ends))
            before, position = record["reward"], position + record["num_tokens"]
        prompts.append((row.prompt_reward, row.max_new_tokens, row.policy_tokens - position))
    if len(prompts) < MIN_ROLLOUTS:
        raise InputError(f"calibration needs {MIN_ROLLOUTS} good rows; there are {len(prompts)}")
    number, position, start, reward, length, finished = (np.array(column) for column in zip(*segments, strict=True))
    prompt_reward, longest, overhead = (np.array(column) for column in zip(*prompts, strict=True))
    return Rollouts(number, position, start, reward, length, finished, prompt_reward, longest, float(overhead.mean()))
