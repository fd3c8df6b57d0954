"""Which role to give the next GPU, and what that should gain.

A cell is a closed line of cohorts: each policy actor has `cohorts_in_flight` of them, which go from the policy to a
reward model and back. With P policies, R reward models, s_p and s_r their seconds for a call and n_p, n_r the rows of
it, the rows a cell can propose per second are bounded by

    policies    P · n_p / s_p(n_p)
    rewards     R · n_r / s_r(n_r) · proposals / scores         n_r: the largest cohort, an even share of all rows;
                                                                a prompt is scored, too
    round trip  P · cohorts_in_flight · n_p / (s_p(n_p) + s_r(n_p))

The least of the three after one more actor, over what was measured, gives the gain, at most the actor's share.
A call's seconds are fitted to what was measured: a part for the call and a part for each row.
"""

from dataclasses import dataclass
from typing import Literal

from pipeline.config.cluster import ClusterConfig
from pipeline.runs.usage import CoordinatorUsage, RoleUsage

STARVED = 0.5  # busy less than this, both roles wait for something that no GPU mends


@dataclass(frozen=True, slots=True)
class Advice:
    """The predicted gains are fractions of rows per second, for one more actor of a role in every cell."""

    role: Literal["policy", "reward", "none"]
    gain: float
    other_gain: float
    sentence: str


def advise(
    cluster: ClusterConfig, cohorts_in_flight: int, usage: CoordinatorUsage, reward_key: str | None = None
) -> Advice | None:
    """From what the models did; None if they did nothing. `reward_key` makes a reward faster where no GPU does."""
    policy, reward = usage.policy, usage.reward
    if not policy.busy_s or not reward.busy_s:
        return None
    num_policies, num_rewards = cluster.policies_per_cell, cluster.rewards_per_cell
    now = num_policies * policy.num_rows / policy.actor_s
    more_policies = _bound(policy, reward, num_policies + 1, num_rewards, num_policies, cohorts_in_flight)
    more_rewards = _bound(policy, reward, num_policies, num_rewards + 1, num_policies, cohorts_in_flight)
    gains = {
        "policy": min(max(more_policies / now - 1, 0.0), 1 / num_policies),
        "reward": min(max(more_rewards / now - 1, 0.0), 1 / num_rewards),
    }
    name = "reward model" if reward_key is None else "reward"
    busy = f"policy busy {policy.busy_fraction:.0%}, {name} {reward.busy_fraction:.0%}"
    if max(policy.busy_fraction, reward.busy_fraction) < STARVED:
        sentence = f"{busy}: both wait, more GPUs would too; give them more rows (a longer input, engine.slots)"
        return Advice("none", 0.0, 0.0, sentence)
    is_policy = gains["policy"] >= gains["reward"]
    role: Literal["policy", "reward"] = "policy" if is_policy else "reward"
    other = "reward" if is_policy else "policy"
    if reward_key is not None and reward.busy_fraction > policy.busy_fraction:
        sentence = f"{busy}: the policy waits for the reward, which no GPU mends; raise reward.{reward_key}"
        return Advice("reward", gains["reward"], gains["policy"], sentence)
    where = "to one more" if cluster.cells == 1 else "in every cell to one more"
    keys = {"policy": "cluster.policies_per_cell", "reward": "cluster.rewards_per_cell"}
    count = {"policy": num_policies, "reward": num_rewards}[role] + 1
    sentence = (
        f"{busy}: give the next GPU {where} {role} ({keys[role]}={count}), {gains[role]:+.0%} rows/s predicted; "
        f"one more {other} {gains[other]:+.0%}"
    )
    return Advice(role, gains[role], gains[other], sentence)


def _bound(
    policy: RoleUsage, reward: RoleUsage, num_policies: int, num_rewards: int, num_before: int, cohorts: int
) -> float:
    """Rows per second, in cohorts of the size that was measured: more policies bring more slots, theirs stay full."""
    n_p = policy.mean_cohort_size
    rows_round = num_policies * cohorts * n_p
    n_r = max(min(n_p, rows_round / num_rewards / cohorts), reward.mean_cohort_size * num_policies / num_before)
    n_r = min(n_r, rows_round / num_rewards / cohorts)
    n_first = min(n_p, rows_round / num_rewards / cohorts)
    policy_s = policy.call_s(n_p)
    return min(
        num_policies * n_p / policy_s,
        num_rewards * n_r / reward.call_s(n_r) * policy.num_rows / reward.num_rows,
        rows_round / (policy_s + reward.call_s(n_first)),
    )
