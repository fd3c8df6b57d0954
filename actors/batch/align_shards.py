"""What Ray Data calls for every shard: all calls of an instance share one cell's coordinator, so batches stay full.

Invariant: a call returns exactly the rows it was given, each with its result.
"""

import asyncio
import os
import threading
import time
import uuid
from typing import Any

import pyarrow as pa
import ray

from actors.batch.live_metrics import LiveMetrics
from actors.batch.monitor import Process
from actors.batch.supervision import RayActorSupervisor
from actors.cluster.placement import Cell, Models
from actors.coordination.coordinator import SegmentCoordinator
from actors.coordination.model_calls import ActorSupervisor
from pipeline.config.decoding import Decoding
from pipeline.dataset.columns import InputColumns
from pipeline.dataset.duplicates import RowIndices
from pipeline.dataset.graph import shard_block, unpack_rows
from pipeline.dataset.rows import check_rows
from pipeline.dataset.schema import build_table

PUSH_INTERVAL_S = 1.0


class AlignShards:
    """An async class for `map_batches`: one block of one shard in, the same with results out.

    Args:
        config: how prompts become responses.
        columns: which input columns mean what.
        rows_per_shard: of the plan, to know a shard's first row.
        duplicates: a list that holds the reference to the sorted row indices of repeated ids.
        models: handles of the model actors of all cells.
        monitor: handle of the Monitor that knows which cell is this coordinator's, and gets its usage.
    """

    def __init__(
        self,
        config: Decoding,
        columns: InputColumns,
        rows_per_shard: int,
        duplicates: "list[ray.ObjectRef[RowIndices]]",
        models: Models,
        monitor: Any,
    ) -> None:
        self.coordinator: SegmentCoordinator | None = None
        self.process = Process(ray.get_runtime_context().get_actor_id(), os.getpid())
        self.monitor = monitor
        ray.get(monitor.heartbeat.remote(self.process))
        threading.Thread(target=self._show_life_until_called, daemon=True).start()
        self.config = config
        self.columns = columns
        self.rows_per_shard = rows_per_shard
        self.duplicates: RowIndices = ray.get(duplicates[0])
        self.models = models
        self.coordinator_id = uuid.uuid4().hex
        self.cell: int = ray.get(monitor.claim_cell.remote(self.process, ray.get_runtime_context().get_node_id()))
        self.live_metrics: LiveMetrics | None = None
        self.pushing: asyncio.Task[None] | None = None

    async def __call__(self, block: pa.Table) -> pa.Table:
        if self.coordinator is None:  # here, not in __init__, which runs in another thread than the event loop
            cell = self.models.cells[self.cell]
            self.coordinator = SegmentCoordinator(
                self.config, cell.policies, cell.rewards, supervisors=self._supervisors(cell)
            )
            num_actors = {role: len(handles) for role, handles in cell.by_role().items()}
            self.live_metrics = LiveMetrics(self.cell, num_actors)
            self.pushing = asyncio.create_task(self._push_regularly())
        number = block.column("shard")[0].as_py()
        table = unpack_rows(block.column("rows")[0])
        first_row, asked = number * self.rows_per_shard, self.config.reward.columns
        rows = check_rows(table, first_row, self.columns, self.duplicates, asked)
        results = await asyncio.gather(*(self.coordinator.align(row) for row in rows))
        await self._push()
        return shard_block(number, build_table(table, results, self.config.strategy.name, self.config.keep_rejected))

    def _show_life_until_called(self) -> None:
        """The event loop's pushes show it from then on; one that is never called is idle, not silent."""
        while self.coordinator is None:
            time.sleep(PUSH_INTERVAL_S)
            self.monitor.heartbeat.remote(self.process)

    def _supervisors(self, cell: Cell) -> dict[str, list[ActorSupervisor]]:
        return {
            role: [RayActorSupervisor(handle, self.monitor) for handle in handles]
            for role, handles in cell.by_role().items()
        }

    async def _push(self) -> None:
        assert self.coordinator is not None and self.live_metrics is not None
        usage = self.coordinator.usage
        self.live_metrics.update(usage)
        await self.monitor.push.remote(self.cell, self.coordinator_id, self.process, usage)

    async def _push_regularly(self) -> None:
        while True:
            await asyncio.sleep(PUSH_INTERVAL_S)
            await self._push()
