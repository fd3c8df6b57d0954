"""How many GPUs each model actor gets: arithmetic only, so that an impossible wish fails at once, with the sum.

A model runs on one GPU at most, so only the number of GPUs counts, not how they are spread over nodes.
"""

import math
from dataclasses import dataclass

from pipeline.config.cluster import ClusterConfig
from pipeline.errors import ConfigError

PARTS = 10_000  # Ray counts GPUs in ten-thousandths


@dataclass(frozen=True, slots=True)
class GpuShares:
    """GPUs of one policy actor and of one reward actor."""

    policy: float
    reward: float

    def bundles(self, cluster: ClusterConfig) -> list[float]:
        """What a cell reserves: one bundle where it fits on one GPU, else one per actor; none without GPUs. A bundle is
        never spread over two GPUs."""
        asked = [share for share, _ in self._asked(cluster)]
        return [min(1.0, sum(asked))] if self._shares_one_gpu(cluster) else asked

    def bundle_labels(self, cluster: ClusterConfig) -> list[dict[str, str]]:
        """The labels that each bundle's node must have."""
        labels = [labels for _, labels in self._asked(cluster)]
        return labels[:1] if self._shares_one_gpu(cluster) else labels

    def _asked(self, cluster: ClusterConfig) -> list[tuple[float, dict[str, str]]]:
        policies = [(self.policy, cluster.policy_nodes)] * cluster.policies_per_cell
        rewards = [(self.reward, cluster.reward_nodes)] * cluster.rewards_per_cell
        return [(share, labels) for share, labels in policies + rewards if share]

    def _shares_one_gpu(self, cluster: ClusterConfig) -> bool:
        asked = self._asked(cluster)
        return (
            bool(asked)
            and _parts([share for share, _ in asked]) <= PARTS
            and all(labels == asked[0][1] for _, labels in asked)
        )


def share_gpus(cluster: ClusterConfig, num_gpus: float, want_gpus: tuple[bool, bool] = (True, True)) -> GpuShares:
    """GPUs of each actor: as configured; else one each if there are enough, else an even share, none without GPUs and
    none for a policy or a reward that wants none.

    Raises:
        ConfigError: the cluster's GPUs are too few; the message does the sum.
    """
    configured = (cluster.gpus_per_policy, cluster.gpus_per_reward)
    asked = [0.0 if share is None and not wants else share for share, wants in zip(configured, want_gpus, strict=True)]
    counts = [cluster.cells * cluster.policies_per_cell, cluster.cells * cluster.rewards_per_cell]
    given = sum(share * count for share, count in zip(asked, counts, strict=True) if share is not None)
    num_open = sum(count for share, count in zip(asked, counts, strict=True) if share is None)
    fair = 1.0 if cluster.wait_for_gpus_s else _fair_share(num_gpus, num_gpus - given, num_open)
    shares = GpuShares(*(fair if share is None else share for share in asked))
    if not cluster.wait_for_gpus_s and not _fit(shares.bundles(cluster) * cluster.cells, int(num_gpus)):
        raise ConfigError(f"{sum_shown(cluster, shares)} cannot be placed: the cluster has {num_gpus:g}")
    return shares


def sum_shown(cluster: ClusterConfig, shares: GpuShares) -> str:
    """The wish as a sum in words."""
    total = cluster.cells * (cluster.policies_per_cell * shares.policy + cluster.rewards_per_cell * shares.reward)
    return (
        f"cluster.cells {cluster.cells} × (policies_per_cell {cluster.policies_per_cell} × gpus_per_policy "
        f"{shares.policy:g} + rewards_per_cell {cluster.rewards_per_cell} × gpus_per_reward {shares.reward:g}) = "
        f"{total:g} GPUs{_nodes_shown(cluster)}"
    )


def _nodes_shown(cluster: ClusterConfig) -> str:
    labels = {"policy": cluster.policy_nodes, "reward": cluster.reward_nodes}
    wanted = [f"{role} on {', '.join(f'{k}: {v}' for k, v in node.items())}" for role, node in labels.items() if node]
    return f" ({'; '.join(wanted)})" if wanted else ""


def _fair_share(num_gpus: float, left: float, num_actors: int) -> float:
    if not num_gpus or not num_actors:
        return 0.0
    if left <= 0 or left >= num_actors:
        return 1.0
    return PARTS // math.ceil(num_actors / left) / PARTS


def _parts(shares: list[float]) -> int:
    return sum(round(share * PARTS) for share in shares)


def _fit(bundles: list[float], num_gpus: int) -> bool:
    """Whether the bundles can be packed, the largest first, each on the first GPU with room."""
    room = [PARTS] * num_gpus
    for bundle in sorted(bundles, reverse=True):
        place = next((gpu for gpu, free in enumerate(room) if free >= _parts([bundle])), None)
        if place is None:
            return False
        room[place] -= _parts([bundle])
    return True
