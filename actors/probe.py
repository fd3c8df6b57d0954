"""A probe: the first rows aligned by one cell's models without writing anything, and what they say of the whole input.

The cost is that of the probe's own calls. They are less full than a long run's, so a run is rarely dearer.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from huggingface_hub import try_to_load_from_cache

from actors.coordinator import SegmentCoordinator
from actors.gpu_shares import GpuShares
from actors.placement import Cell
from pipeline.cluster_config import ClusterConfig
from pipeline.config import AlignConfig, ModelConfig
from pipeline.input_plan import InputPlan, Span
from pipeline.input_schema import InputColumns
from pipeline.records import PromptRow, RowResult
from pipeline.rows import check_rows
from pipeline.spans import read_rows
from pipeline.usage import CoordinatorUsage

PROBE_ROWS = 32
WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json")
NO_DUPLICATES = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Probe:
    """What the probed rows gave and cost."""

    results: tuple[RowResult, ...]
    usage: CoordinatorUsage

    @property
    def error_types(self) -> Counter[str]:
        return Counter(result.error_type for result in self.results if result.error_type is not None)

    def tokens(self, name: str, num_rows: int) -> int:
        """`num_response_tokens`, `num_policy_tokens` or `num_reward_tokens` that as many rows would take."""
        return round(num_rows * sum(getattr(result, name) for result in self.results) / len(self.results))

    def model_s(self, role: str, num_rows: int) -> float:
        """Seconds in which one of the role's models would be busy."""
        return num_rows * getattr(self.usage, role).busy_s / len(self.results)

    def wall_s(self, cluster: ClusterConfig, num_rows: int) -> float:
        """Seconds that the busier role would take while the other one keeps up."""
        actors = {"policy": cluster.policies_per_cell, "reward": cluster.rewards_per_cell}
        return max(self.model_s(role, num_rows) / (cluster.cells * count) for role, count in actors.items())

    def gpu_hours(self, cluster: ClusterConfig, shares: GpuShares, num_rows: int) -> float:
        """GPUs held, times hours."""
        per_cell = cluster.policies_per_cell * shares.policy + cluster.rewards_per_cell * shares.reward
        return cluster.cells * per_cell * self.wall_s(cluster, num_rows) / 3600


def read_head(plan: InputPlan, columns: InputColumns, num_rows: int) -> list[PromptRow]:
    """The first rows, checked; whether an id comes twice is not looked at."""
    head = plan.head(num_rows)
    tables = list(read_rows(head, columns, Span(0, head.num_rows)))
    return check_rows(pa.concat_tables(tables), 0, columns, NO_DUPLICATES) if tables else []


def run_probe(config: AlignConfig, cell: Cell, rows: list[PromptRow]) -> Probe:
    """Align the first `PROBE_ROWS` rows and measure; those after them come first, so that nothing is measured cold.

    Raises:
        ModelError: a model failed or gave no answer.
    """
    return asyncio.run(_run_probe(config, cell, rows))


async def _run_probe(config: AlignConfig, cell: Cell, rows: list[PromptRow]) -> Probe:
    async def align(some: list[PromptRow]) -> Probe:
        coordinator = SegmentCoordinator(config, cell.policies, cell.rewards)
        results = await asyncio.gather(*(coordinator.align(row) for row in some))
        return Probe(tuple(results), coordinator.usage)

    await align(rows[PROBE_ROWS:])
    return await align(rows[:PROBE_ROWS])


def is_at_hand(model: ModelConfig) -> bool:
    """Whether a model can be loaded without fetching it."""
    if model.backend == "fake" or Path(model.model).expanduser().is_dir():
        return True
    return any(isinstance(try_to_load_from_cache(model.model, name), str) for name in WEIGHT_FILES)
