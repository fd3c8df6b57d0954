"""The law of the next prefix reward given the present one, as rollouts show it.

Nothing is fitted: a proposal from reward r at position t is one of the rollouts' own segments that began near t with a
reward near r, moved by r's distance from where it began. What is far from every rollout moves as the nearest ones do.
"""

from dataclasses import dataclass

import numpy as np

from jobs.calibrate.rollouts import Bools, Floats, Ints, Rollouts

NEIGHBOURS = 40  # wide enough for a tail of rewards, narrow enough for the law to differ along them
MIN_RECORDS = 120  # fewer at one place: the places before it, where more responses are alive, lend theirs


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
