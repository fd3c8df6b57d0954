"""The distribution of the next prefix reward given the present one, taken from rollouts.

Nothing is fitted: a proposal from reward r at position t is one of the rollouts' own segments that began near t with a
reward near r, shifted by the distance between r and that reward. A reward far from every rollout uses the nearest ones.
"""

from dataclasses import dataclass

import numpy as np

from jobs.calibrate.rollouts import Bools, Floats, Ints, Rollouts

NEIGHBOURS = 40  # enough to show a tail of rewards, few enough for the law to vary with the reward
MIN_RECORDS = 120  # a position with fewer also uses those before it, where more responses are alive


@dataclass(frozen=True, slots=True)
class Proposed:
    """Candidates, [A, M]: M independent ones for each of A responses."""

    reward_AM: Floats
    num_tokens_AM: Ints
    finished_AM: Bools


class TransitionLaw:
    def __init__(self, rollouts: Rollouts) -> None:
        self.rollouts = rollouts
        self.step_tokens = rollouts.step_tokens
        places = rollouts.position_S // self.step_tokens
        self.orders: list[Ints] = []
        for place in range(int(places.max()) + 1):
            first = place
            while first > 0 and np.sum((places >= first) & (places <= place)) < MIN_RECORDS:
                first -= 1
            chosen = np.flatnonzero((places >= first) & (places <= place))
            self.orders.append(chosen[np.argsort(rollouts.before_S[chosen], kind="stable")])

    def propose(self, position: int, reward_A: Floats, num_attempts: int, random: np.random.Generator) -> Proposed:
        """Candidates after `position` response tokens, for responses of reward `reward_A` so far."""
        rollouts = self.rollouts
        order = self.orders[min(position // self.step_tokens, len(self.orders) - 1)]
        width = min(NEIGHBOURS, len(order))
        before_S = rollouts.before_S[order]
        middle = (np.searchsorted(before_S, reward_A, "left") + np.searchsorted(before_S, reward_A, "right")) // 2
        low_A = np.clip(middle - width // 2, 0, len(order) - width)
        picked_AM = order[low_A[:, None] + random.integers(width, size=(len(reward_A), num_attempts))]
        moved_AM = reward_A[:, None] - rollouts.before_S[picked_AM]
        return Proposed(
            rollouts.reward_S[picked_AM] + moved_AM, rollouts.num_tokens_S[picked_AM], rollouts.finished_S[picked_AM]
        )
