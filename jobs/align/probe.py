"""A probe: the first rows aligned by one cell's models without writing anything, and an estimate for the whole input.

The probe's calls are smaller than a long run's. How long those would take is read off a line through the probe's calls
(`pipeline.runs.usage.RoleUsage.call_s`).
"""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from huggingface_hub import try_to_load_from_cache

from actors.cluster.gpu_shares import GpuShares
from actors.cluster.placement import Cell
from actors.coordination.coordinator import SegmentCoordinator
from actors.engines.backends import Role
from pipeline.config.cluster import ClusterConfig
from pipeline.config.decoding import Decoding
from pipeline.config.model import ModelConfig
from pipeline.dataset.columns import InputColumns
from pipeline.dataset.plan import InputPlan, Span
from pipeline.dataset.reading import read_rows
from pipeline.dataset.rows import check_rows
from pipeline.records import PromptRow, RowResult
from pipeline.runs.usage import CoordinatorUsage, RoleUsage

PROBE_ROWS = 32
WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json")
NO_DUPLICATES = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Probe:
    """What the probed rows gave and cost, and by role how many rows a call would have in a run over all
    `num_rows` rows."""

    results: tuple[RowResult, ...]
    usage: CoordinatorUsage
    num_rows: int
    cohort_rows: Mapping[Role, float]

    @property
    def error_types(self) -> Counter[str]:
        return Counter(result.error_type for result in self.results if result.error_type is not None)

    def tokens(self, name: str) -> int:
        """`num_response_tokens`, `num_policy_tokens` or `num_reward_tokens` of all rows."""
        return round(self.num_rows * sum(getattr(result, name) for result in self.results) / len(self.results))

    def model_s(self, role: Role) -> float:
        """Seconds of all calls of a role, if they are of `cohort_rows` rows."""
        usage: RoleUsage = getattr(self.usage, role)
        if not usage.num_calls:
            return 0.0
        call_rows = self.cohort_rows[role]
        num_calls = usage.num_rows * self.num_rows / len(self.results) / call_rows
        return num_calls * usage.call_s(call_rows)

    def wall_s(self, cluster: ClusterConfig) -> float:
        """Seconds that the busier role needs; the other one works at the same time."""
        counts: dict[Role, int] = {"policy": cluster.policies_per_cell, "reward": cluster.rewards_per_cell}
        return max(self.model_s(role) / (cluster.cells * count) for role, count in counts.items())

    def gpu_hours(self, cluster: ClusterConfig, shares: GpuShares) -> float:
        """GPUs held, times hours."""
        per_cell = cluster.policies_per_cell * shares.policy + cluster.rewards_per_cell * shares.reward
        return cluster.cells * per_cell * self.wall_s(cluster) / 3600


def read_head(plan: InputPlan, columns: InputColumns, asked: tuple[str, ...], num_rows: int) -> list[PromptRow]:
    """The first rows, checked, but not for duplicate ids."""
    head = plan.head(num_rows)
    tables = list(read_rows(head, columns, Span(0, head.num_rows)))
    return check_rows(pa.concat_tables(tables), 0, columns, NO_DUPLICATES, asked) if tables else []


def run_probe(config: Decoding, cell: Cell, rows: list[PromptRow], num_rows: int) -> Probe:
    """Align the first `PROBE_ROWS` rows and measure; the others are aligned before, so that nothing is measured cold.

    Raises:
        ModelError: a model failed or gave no answer.
    """
    return asyncio.run(_run_probe(_without_idle_slots(config, num_rows), cell, rows, num_rows))


async def _run_probe(config: Decoding, cell: Cell, rows: list[PromptRow], num_rows: int) -> Probe:
    async def align(some: list[PromptRow]) -> Probe:
        coordinator = SegmentCoordinator(config, cell.policies, cell.rewards)
        results = await asyncio.gather(*(coordinator.align(row) for row in some))
        return Probe(tuple(results), coordinator.usage, num_rows, _cohort_rows(config, num_rows))

    await align(rows[PROBE_ROWS:])
    return await align(rows[:PROBE_ROWS])


def _without_idle_slots(config: Decoding, num_rows: int) -> Decoding:
    """A long run has no idle slots for speculative proposals, but a probe has; they change no response."""
    is_long = num_rows > config.slots_per_cell * config.cluster.cells
    if not is_long or not hasattr(config.strategy, "proposals_per_round"):
        return config
    return config.model_copy(update={"strategy": config.strategy.model_copy(update={"proposals_per_round": 1})})


def _cohort_rows(config: Decoding, num_rows: int) -> dict[Role, float]:
    """Rows of a call while the slots are full, or as full as a small number of rows makes them."""
    cluster = config.cluster
    lanes = config.strategy.num_lanes
    live = min(config.slots_per_cell, num_rows * lanes / cluster.cells)
    most = config.coordinator.max_cohort_size or live
    counts: dict[Role, int] = {"policy": cluster.policies_per_cell, "reward": cluster.rewards_per_cell}
    in_flight = config.coordinator.cohorts_in_flight
    return {role: max(1.0, min(most, live / count / in_flight)) for role, count in counts.items()}


def is_at_hand(model: ModelConfig) -> bool:
    """Whether a model can be loaded without a download."""
    if model.backend == "fake" or Path(model.model).expanduser().is_dir():
        return True
    cached = (try_to_load_from_cache(model.model, name, revision=model.revision) for name in WEIGHT_FILES)
    return any(isinstance(path, str) for path in cached)
