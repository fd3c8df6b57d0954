"""Plain rollouts with the reward at every segment boundary, as arrays.

They come from an ordinary run with `max_attempts: 1` (no second attempt), alpha 0 and r* = PROBE_THRESHOLD. A segment's
threshold is then τ = r0 + t · (r* − r0) / n, far above every reward, so n and then the prompt's reward r0 can be
computed from it.
"""

from collections.abc import Iterable, Sequence
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
PROBE_THRESHOLD = 1e7
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
        knobs = StarsConfig(segment_size=knobs.segment_size, reward_threshold=PROBE_THRESHOLD)
    if not isinstance(knobs, StarsConfig | CardsConfig):
        names = "stars, cards and reservation"
        raise ConfigError(f"strategy.name: only {names} have a threshold to calibrate (given: {knobs.name!r})")
    once = {"max_attempts": 1, "alpha": 0.0, "beta": 0.0, "reward_threshold": PROBE_THRESHOLD, "proposals_per_round": 1}
    return config.model_copy(update={"strategy": knobs.model_copy(update=once)})


def gather_rollouts(rows: Iterable[tuple[Sequence[Any], bool, float]]) -> Rollouts:
    """Rows as (segment records as mappings, whether it ended by itself, policy tokens pushed).

    A row whose first segment may be the whole response does not reveal its prompt's reward and is left out.

    Raises:
        InputError: too few rows are left.
    """
    segments: list[tuple[int, int, float, float, int, bool]] = []
    prompts: list[tuple[float, int, float]] = []
    for records, is_stopped, policy_tokens in rows:
        first = records[0]
        max_new_tokens = round(first["num_tokens"] * PROBE_THRESHOLD / first["threshold"])
        part = first["num_tokens"] / max_new_tokens
        if part >= 1:
            continue
        before, position = (first["threshold"] - part * PROBE_THRESHOLD) / (1 - part), 0
        num_tokens = sum(record["num_tokens"] for record in records)
        prompts.append((before, max_new_tokens, policy_tokens - num_tokens))
        for record in records:
            is_last = record is records[-1]
            row = len(prompts) - 1
            segments.append((row, position, before, record["reward"], record["num_tokens"], is_stopped and is_last))
            before, position = record["reward"], position + record["num_tokens"]
    if len(prompts) < MIN_ROLLOUTS:
        raise InputError(
            f"calibration needs {MIN_ROLLOUTS} good rows of more than one segment; there are {len(prompts)}"
        )
    row, position, start, reward, length, finished = (np.array(column) for column in zip(*segments, strict=True))
    prompt_reward, longest, overhead = (np.array(column) for column in zip(*prompts, strict=True))
    return Rollouts(row, position, start, reward, length, finished, prompt_reward, longest, float(overhead.mean()))
