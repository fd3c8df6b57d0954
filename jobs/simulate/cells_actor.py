"""All cells of a simulated cluster in one process, between the real graph and fake models on virtual time.

The real graph decides which cell gets which shard, and when more are sent: a finished shard goes back to Ray Data, and
the clock stands still until the graph has sent the shards that are due. The virtual clock charges for the graph's work:
the graph brings at most one shard every `shard_s` seconds, as measured on the same graph beforehand.

Invariant: virtual time passes in models and in the graph only. The hop of the models includes the coordinators' work.
"""

import asyncio
import threading
import time
from collections import deque
from typing import Any

import numpy as np
import pyarrow as pa

from actors.coordination.coordinator import SegmentCoordinator
from jobs.simulate.one_cell import virtual_coordinator
from jobs.simulate.virtual_time import VirtualTimeLoop
from pipeline.config.decoding import Decoding
from pipeline.dataset.columns import InputColumns
from pipeline.dataset.graph import shard_block, unpack_rows
from pipeline.dataset.rows import check_rows
from pipeline.dataset.schema import build_table
from pipeline.records import PromptRow
from pipeline.runs.usage import CoordinatorUsage

SHARD_TIMEOUT_S = 30.0  # real seconds to wait for a shard that is due, before the clock continues without it


class CellsOnVirtualTime:
    """Args:
    config: of the run; its cluster section says how many cells there are.
    columns: which input columns mean what.
    rows_per_shard: of the plan.
    num_shards: of the plan.
    calls_per_cell: shards that the graph keeps with each cell.
    shard_s: seconds of the graph's work for one shard.
    hop_s: seconds that a model call spends outside the model.
    """

    def __init__(
        self,
        config: Decoding,
        columns: InputColumns,
        rows_per_shard: int,
        num_shards: int,
        calls_per_cell: int,
        shard_s: float,
        hop_s: float,
    ) -> None:
        self.config, self.columns, self.rows_per_shard = config, columns, rows_per_shard
        self.shard_s, self.hop_s = shard_s, hop_s
        self.owners: dict[str, int] = {}
        self.num_to_send = num_shards
        self.graph_free_s = 0.0
        self.owed: deque[float] = deque()
        self.coordinators: dict[int, SegmentCoordinator] = {}
        self.finished_s: list[float] = []
        self.num_late = 0
        self._blocked_since_s: float | None = None
        self.loop = VirtualTimeLoop(self._may_jump_to)
        for _ in range(min(num_shards, config.cluster.cells * calls_per_cell)):
            self._order_shard(0.0)
        threading.Thread(target=self.loop.run_forever, name="virtual time", daemon=True).start()

    def claim_cell(self, actor_id: str) -> int:
        return self.owners.setdefault(actor_id, len(self.owners) % self.config.cluster.cells)

    async def align(self, cell: int, block: pa.Table) -> pa.Table:
        """One shard, as `actors.batch.align_shards.AlignShards` does it; waits in real time for a virtual answer."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._align(cell, block), self.loop))

    def figures(self) -> tuple[list[float], list[CoordinatorUsage], int]:
        """Virtual times at which rows were finished, the usage of every cell, and the number of late shards."""
        return self.finished_s, [self.coordinators[cell].usage for cell in sorted(self.coordinators)], self.num_late

    def _order_shard(self, at_s: float) -> None:
        """The graph starts to bring the next shard as soon as it is done with those before it."""
        if self.num_to_send:
            self.num_to_send -= 1
            self.graph_free_s = max(self.graph_free_s, at_s) + self.shard_s
            self.owed.append(self.graph_free_s)

    def _may_jump_to(self, instant_s: float) -> bool:
        """Whether time may pass: not beyond the arrival of a shard that is due and not sent yet."""
        if not self.owed or instant_s <= self.owed[0]:
            self._blocked_since_s = None
            return True
        if self._blocked_since_s is None:
            self._blocked_since_s = time.monotonic()
        elif time.monotonic() - self._blocked_since_s > SHARD_TIMEOUT_S:
            self.owed.popleft()
            self.num_late += 1
            self._blocked_since_s = None
        return False

    async def _align(self, cell: int, block: pa.Table) -> pa.Table:
        due_s = self.owed.popleft() if self.owed else self.loop.time()
        self._blocked_since_s = None
        await asyncio.sleep(max(0.0, due_s - self.loop.time()))
        if cell not in self.coordinators:
            self.coordinators[cell] = virtual_coordinator(self.config, self.hop_s)
        number = block.column("shard")[0].as_py()
        table = unpack_rows(block.column("rows")[0])
        rows = check_rows(table, number * self.rows_per_shard, self.columns, np.zeros(0, dtype=np.int64))
        results = await asyncio.gather(*(self._align_row(cell, row) for row in rows))
        self._order_shard(self.loop.time())
        return shard_block(number, build_table(table, results, self.config.strategy.name))

    async def _align_row(self, cell: int, row: PromptRow) -> Any:
        result = await self.coordinators[cell].align(row)
        self.finished_s.append(self.loop.time())
        return result
