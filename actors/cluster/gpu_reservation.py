"""What a run holds of the cluster while it lasts: the GPUs of every cell, and the node of each cell.

A cell's GPUs are one placement group, met on one node where that is possible and on several where it is not (PACK).
Cells without GPUs reserve nothing and are dealt to the nodes in turn, which is a wish that a lost node may break.
"""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from actors.cluster.gpu_shares import GpuShares, share_gpus, sum_shown
from pipeline.config.cluster import ClusterConfig
from pipeline.errors import ConfigError

GRACE_S = 10.0  # for GPUs that are there: a run that ended just now may still be letting go of them
REPORT_S = 30.0


@dataclass(frozen=True, slots=True)
class Reservation:
    """`node_ids` names a node per cell, `groups` the placement group of each cell, where there are any."""

    cluster: ClusterConfig
    shares: GpuShares
    node_ids: tuple[str, ...]
    groups: tuple[PlacementGroup, ...] = field(default=())

    @property
    def most_cells_on_a_node(self) -> int:
        return max(Counter(self.node_ids).values())

    def scheduling(self, cell: int, actor: int, num_gpus: float) -> Any:
        """Where actor number `actor` of a cell goes, policies counted first, then rewards."""
        if not num_gpus:
            return NodeAffinitySchedulingStrategy(self.node_ids[cell], soft=True)
        bundles = self.shares.bundles(self.cluster)
        skipped = 0 if self.shares.policy else self.cluster.policies_per_cell
        return PlacementGroupSchedulingStrategy(self.groups[cell], 0 if len(bundles) == 1 else actor - skipped)


@contextmanager
def reserved(cluster: ClusterConfig, want_gpus: tuple[bool, bool] = (True, True)) -> Iterator[Reservation]:
    """Hold what the config asks for, until the block ends; `want_gpus` says whether the policy and the reward take any.

    Raises:
        ConfigError: the cluster can never give it, or did not in time; the message does the sum.
    """
    shares = share_gpus(cluster, cluster_gpus(), want_gpus)
    bundles = shares.bundles(cluster)
    if not bundles:
        nodes = _home_nodes()
        node_ids = tuple(nodes[cell % len(nodes)] for cell in range(cluster.cells))
        yield Reservation(cluster, shares, node_ids)
        return
    wish, labels = [{"GPU": gpus} for gpus in bundles], shares.bundle_labels(cluster)
    groups = tuple(placement_group(wish, strategy="PACK", bundle_label_selector=labels) for _ in range(cluster.cells))
    try:
        _wait_for(groups, cluster, shares)
        node_ids = tuple(placement_group_table(group)["bundles_to_node_id"][0] for group in groups)
        yield Reservation(cluster, shares, node_ids, groups)
    finally:
        for group in groups:
            remove_placement_group(group)


def cluster_gpus() -> float:
    """GPUs of all nodes that are alive, taken or not."""
    return sum(node["Resources"].get("GPU", 0.0) for node in ray.nodes() if node["Alive"])


def _home_nodes() -> list[str]:
    """Nodes that may do work: a head node is often given no CPU so that nothing runs there."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    working = [node for node in alive if node["Resources"].get("CPU")] or alive
    return sorted(node["NodeID"] for node in working)


def _wait_for(groups: tuple[PlacementGroup, ...], cluster: ClusterConfig, shares: GpuShares) -> None:
    started_s = told_s = time.monotonic()
    wait_s = max(GRACE_S, cluster.wait_for_gpus_s)
    for number, group in enumerate(groups):
        while not group.wait(timeout_seconds=1):
            now_s = time.monotonic()
            if now_s - started_s > wait_s:
                free = ray.available_resources().get("GPU", 0.0)
                raise ConfigError(
                    f"{sum_shown(cluster, shares)} were not to be had in {wait_s:.0f} s: {number} of "
                    f"{len(groups)} cells are placed, {free:g} of the cluster's {cluster_gpus():g} GPUs are free "
                    "(cluster.wait_for_gpus_s is how long to wait)"
                )
            if now_s - told_s > REPORT_S:
                told_s = now_s
                print(f"waiting for GPUs: {number} of {len(groups)} cells are placed", flush=True)
