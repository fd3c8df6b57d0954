"""The real Ray Data graph: with cells that answer at once, to measure its cost, and with cells on virtual time.

The one file of the simulation with `ray.remote`.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from jobs.simulate.cells_actor import CellsOnVirtualTime
from jobs.simulate.one_cell import steady_rate
from pipeline.config.align import AlignConfig
from pipeline.dataset.columns import InputColumns
from pipeline.dataset.graph import AlignerSpec, calls_in_flight, run_graph, shard_block, unpack_rows
from pipeline.dataset.plan import InputPlan
from pipeline.dataset.schema import build_table
from pipeline.records import RowResult
from pipeline.runs.usage import CoordinatorUsage
from pipeline.storage import Location

ANSWER = "a response of the usual length " * 8


class SimulatedAligner:
    """Takes the place of `actors.batch.align_shards.AlignShards`; its cell runs on virtual time in another actor."""

    def __init__(self, cells: Any) -> None:
        self.cells = cells
        self.cell: int = ray.get(cells.claim_cell.remote(ray.get_runtime_context().get_actor_id()))

    async def __call__(self, block: pa.Table) -> pa.Table:
        return await self.cells.align.remote(self.cell, block)


class InstantAligner:
    """Answers at once, so that only the graph takes time."""

    def __init__(self, strategy: str) -> None:
        self.result = RowResult(strategy, 0, "length", response=ANSWER, reward=0.5)
        self.strategy = strategy

    async def __call__(self, block: pa.Table) -> pa.Table:
        await asyncio.sleep(0)
        table = unpack_rows(block.column("rows")[0])
        results = [self.result] * table.num_rows
        return shard_block(block.column("shard")[0].as_py(), build_table(table, results, self.strategy))


@dataclass(frozen=True, slots=True)
class ClusterRun:
    """What a simulated cluster did. `rows_per_s` while all cells are full, `usages` cell by cell, `first_row_s` when
    the first row was done; `num_late` shards came later than the clock could wait."""

    rows_per_s: float
    first_row_s: float
    usages: tuple[CoordinatorUsage, ...]
    num_late: int


def measure_shard_s(config: AlignConfig, plan: InputPlan, columns: InputColumns, shards: Location) -> float:
    """Real seconds per shard when only the graph takes time, from the times of the commits."""
    _run(config, plan, columns, InstantAligner, (config.strategy.name,), shards)
    committed = [info.mtime.timestamp() for info in shards.children() if info.mtime is not None]
    return 1 / steady_rate(committed)


def simulate_cluster(
    config: AlignConfig, plan: InputPlan, columns: InputColumns, shards: Location, shard_s: float, hop_s: float
) -> ClusterRun:
    """Align the plan's rows with `config.cluster.cells` cells on virtual time; the shards are really written."""
    calls = calls_in_flight(config.slots_per_cell, plan.rows_per_shard)
    size = (plan.rows_per_shard, plan.num_shards, calls)
    cells = (
        ray.remote(num_cpus=0, max_concurrency=2 * calls * config.cluster.cells + 4)(CellsOnVirtualTime)
        .options()
        .remote(config, columns, *size, shard_s, hop_s)
    )
    _run(config, plan, columns, SimulatedAligner, (cells,), shards)
    finished_s, usages, num_late = ray.get(cells.figures.remote())
    ray.kill(cells)
    return ClusterRun(steady_rate(finished_s), min(finished_s), tuple(usages), num_late)


def _run(
    config: AlignConfig,
    plan: InputPlan,
    columns: InputColumns,
    aligner: type,
    arguments: tuple[object, ...],
    shards: Location,
) -> None:
    shards.create_directory()
    spec = AlignerSpec(aligner, arguments, config.cluster.cells, config.slots_per_cell)
    run_graph(plan, columns, np.zeros(0, dtype=np.int64), spec, shards, config.dataset.read_rows)
