"""A strategy run on a transition law instead of models: predicts in milliseconds what its knobs cost and reach.

The acceptance rule, the threshold line and the fallback are those of `pipeline.strategies.acceptance`, over arrays.
"""

from dataclasses import dataclass

import numpy as np

from jobs.calibrate.law import TransitionLaw
from jobs.calibrate.rollouts import Bools, Floats, Ints
from jobs.calibrate.search_variable import Knobs, levels
from pipeline.strategies.reservation import ReservationConfig

NUM_RESPONSES = 1200
SEED = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """Means over responses; `acceptance_rate` is proposals accepted by rule, per proposal."""

    policy_tokens: float
    acceptance_rate: float
    reward: float


def simulate(law: TransitionLaw, knobs: Knobs) -> Outcome:
    """The outcome of `knobs` over NUM_RESPONSES responses to the rollouts' prompts, the same draws for all knobs."""
    random = np.random.default_rng(SEED)
    rollouts = law.rollouts
    prompts = np.arange(NUM_RESPONSES) % len(rollouts.prompt_reward_P)
    reward_N, longest_N = rollouts.prompt_reward_P[prompts].copy(), rollouts.max_new_tokens_P[prompts]
    prompt_reward_N = reward_N.copy()
    length_N = np.zeros(NUM_RESPONSES, dtype=np.int64)
    alive_N = np.ones(NUM_RESPONSES, dtype=np.bool_)
    num_accepted = num_attempts = num_tokens = 0
    while alive_N.any():
        for length in np.unique(length_N[alive_N]):
            rows = np.flatnonzero(alive_N & (length_N == length))
            proposed = law.propose(int(length), reward_N[rows], knobs.max_attempts, random)
            tokens_AM = np.minimum(proposed.num_tokens_AM, (longest_N[rows] - length)[:, None])
            if isinstance(knobs, ReservationConfig):
                threshold_AM = levels(knobs, int(length), reward_N[rows])[:, None]
            else:
                start_A = (1 - knobs.alpha) * prompt_reward_N[rows] + knobs.alpha * knobs.reward_threshold
                slope_A = (knobs.reward_threshold - start_A) / longest_N[rows]
                line_AM = start_A[:, None] + (length + tokens_AM) * slope_A[:, None]
                threshold_AM = np.minimum(knobs.reward_threshold, line_AM)
            accepted_AM = random.random(tokens_AM.shape) < acceptance(proposed.reward_AM, threshold_AM, knobs.beta)
            kept_A, attempts_A = choose(accepted_AM, proposed.reward_AM)
            each = np.arange(len(rows))
            num_tokens += int(np.where(np.arange(tokens_AM.shape[1]) < attempts_A[:, None], tokens_AM, 0).sum())
            num_accepted += int(accepted_AM.any(axis=1).sum())
            num_attempts += int(attempts_A.sum())
            reward_N[rows] = proposed.reward_AM[each, kept_A]
            length_N[rows] += tokens_AM[each, kept_A]
            alive_N[rows] = ~proposed.finished_AM[each, kept_A] & (length_N[rows] < longest_N[rows])
    return Outcome(
        rollouts.overhead_tokens + num_tokens / NUM_RESPONSES, num_accepted / num_attempts, float(reward_N.mean())
    )


def acceptance(reward_AM: Floats, threshold_AM: Floats, beta: float) -> Floats:
    """`pipeline.strategies.acceptance.acceptance_probability` over arrays."""
    gap_AM = np.minimum(0.0, reward_AM - threshold_AM)
    return np.exp(gap_AM / beta) if beta > 0 else (gap_AM == 0).astype(np.float64)


def choose(accepted_AM: Bools, reward_AM: Floats) -> tuple[Ints, Ints]:
    """The kept attempt and the number of attempts made, [A] each: the first accepted one, or the best of all."""
    any_A = accepted_AM.any(axis=1)
    first_A = accepted_AM.argmax(axis=1)
    kept_A = np.where(any_A, first_A, reward_AM.argmax(axis=1))
    return kept_A, np.where(any_A, first_A + 1, accepted_AM.shape[1])
