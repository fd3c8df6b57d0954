"""The Ray Data graph: span descriptors → rows read and cut into shards → shards aligned → shard files.

    from_items(spans) → read (task, one block per shard) → aligner (actor per cell, many calls at once) → write (task)

Invariants: a block is one shard, a task is one block, and a commit is one renamed file; a shard that is already
committed is neither decoded nor sent anywhere. The driver holds descriptors only, and its memory does not grow with the
rows: Ray Data keeps about 20 KB for every shard until a graph ends, so a long input goes through several, one by one.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, Datasink
from ray.data._internal.execution.interfaces import TaskContext
from ray.data.block import Block, BlockAccessor

from pipeline.dataset.columns import InputColumns
from pipeline.dataset.plan import InputPlan, Shard, Span
from pipeline.dataset.reading import read_shards
from pipeline.dataset.shards import write_shard
from pipeline.storage import Location

ROWS_IN_FLIGHT_PER_SLOT = 4  # enough that a finished row's slot never waits for Ray Data to bring the next
MAX_SHARDS_PER_GRAPH = 1000
MIN_SHARDS_PER_GRAPH_AND_CELL = 64  # cells run dry, one after the other, at the end of every graph
MAX_BLOCKS_OF_SPANS = 1000
REPORTED = ("ray.data._internal.execution.streaming_executor_state", "ray.data.exceptions")  # why a run failed
FALSE_ALARMS = (
    "ray.data._internal.progress",  # that progress bars are off, which is what we asked for
    "ray.data.dataset",  # that no CPU is free, in the moment between two stages when that is so
)
SHARD_SCHEMA = pa.schema([("shard", pa.int64()), ("rows", pa.large_binary())])


@dataclass(frozen=True, slots=True)
class AlignerSpec:
    """The class whose instances, one a cell, turn a block of SHARD_SCHEMA into another; what its constructor gets; and
    how many rows a cell decodes at once."""

    aligner: type
    arguments: tuple[object, ...]
    cells: int
    slots_per_cell: int


def pack_rows(rows: pa.Table) -> bytes:
    """Any Arrow table as bytes, so that no column type has to survive Ray Data's own conversions."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    return sink.getvalue().to_pybytes()


def unpack_rows(payload: pa.Scalar) -> pa.Table:
    with pa.ipc.open_stream(payload.as_buffer()) as reader:
        return reader.read_all()


def shard_block(number: int, rows: pa.Table) -> pa.Table:
    return pa.table([pa.array([number], pa.int64()), pa.array([pack_rows(rows)], pa.large_binary())], SHARD_SCHEMA)


def run_graph(
    plan: InputPlan,
    columns: InputColumns,
    committed: npt.NDArray[np.int64],
    aligner: AlignerSpec,
    shards: Location,
    read_rows: int,
) -> None:
    """Align every shard that is not committed yet and commit each when it is done; a task reads `read_rows` rows."""
    configure_ray_data()
    shared = ray.put((plan, columns, committed))
    for first, end in graph_ranges(plan, committed, aligner.cells):
        spans = [span for span in spans_between(plan, read_rows, first, end) if _has_work(plan, span, committed)]
        _run_range(plan, spans, shared, aligner, shards)


def graph_ranges(plan: InputPlan, committed: npt.NDArray[np.int64], cells: int = 1) -> Iterator[tuple[int, int]]:
    """Ranges of shard numbers with work for one graph each."""
    waiting = np.setdiff1d(np.arange(plan.num_shards), committed, assume_unique=True)
    size = max(MAX_SHARDS_PER_GRAPH, MIN_SHARDS_PER_GRAPH_AND_CELL * cells)
    for i in range(0, len(waiting), size):
        leg = waiting[i : i + size]
        yield int(leg[0]), int(leg[-1]) + 1


def spans_between(plan: InputPlan, read_rows: int, first: int, end: int) -> Iterator[Span]:
    """The plan's spans, cut to the shards from `first` up to `end`."""
    first_row, end_row = first * plan.rows_per_shard, min(end * plan.rows_per_shard, plan.num_rows)
    for span in plan.spans(read_rows):
        cut = Span(max(span.first_row, first_row), min(span.end_row, end_row))
        if cut.first_row < cut.end_row:
            yield cut


def _run_range(plan: InputPlan, spans: list[Span], shared: Any, aligner: AlignerSpec, shards: Location) -> None:
    calls = calls_in_flight(aligner.slots_per_cell, plan.rows_per_shard)
    items = [{"first_row": span.first_row, "end_row": span.end_row} for span in spans]
    (
        ray.data.from_items(items, override_num_blocks=min(len(items), MAX_BLOCKS_OF_SPANS))
        .map_batches(_ReadShards([shared]), batch_size=1, batch_format="pyarrow")
        .repartition(target_num_rows_per_block=1)
        .map_batches(
            aligner.aligner,
            fn_constructor_args=aligner.arguments,
            batch_size=1,
            batch_format="pyarrow",
            zero_copy_batch=True,
            num_cpus=0,
            compute=ActorPoolStrategy(
                size=aligner.cells, max_concurrent_calls_per_actor=calls, max_tasks_in_flight_per_actor=calls
            ),
        )
        .write_datasink(ShardSink(shards, plan.rows_per_shard))
    )


def calls_in_flight(slots: int, rows_per_shard: int) -> int:
    """Shards that one cell's aligner works on at once, so that rows outnumber the cell's slots."""
    return max(2, -(-ROWS_IN_FLIGHT_PER_SLOT * slots // rows_per_shard))


def configure_ray_data() -> None:
    """Our own progress instead of Ray Data's, and no limit on how long a generation may take."""
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_no_progress_timeout_s = -1
    context.raise_original_map_exception = True  # else a StarsError arrives as the text of another error
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    for name in FALSE_ALARMS:
        logging.getLogger(name).setLevel(logging.ERROR)
    for name in REPORTED:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _has_work(plan: InputPlan, span: Span, committed: npt.NDArray[np.int64]) -> bool:
    first = span.first_row // plan.rows_per_shard
    end = -(-span.end_row // plan.rows_per_shard)
    num_committed = np.searchsorted(committed, end) - np.searchsorted(committed, first)
    return bool(num_committed < end - first)


class _ReadShards:
    """The read task's function; the plan travels once, through the object store."""

    def __init__(self, shared: "list[ray.ObjectRef[tuple[InputPlan, InputColumns, npt.NDArray[np.int64]]]]") -> None:
        self.shared = shared

    def __call__(self, spans: pa.Table) -> Iterator[pa.Table]:
        plan, columns, committed = ray.get(self.shared[0])
        for span in (Span(**row) for row in spans.to_pylist()):
            for shard, rows in read_shards(plan, columns, span):
                i = int(np.searchsorted(committed, shard.number))
                if i == len(committed) or committed[i] != shard.number:
                    yield shard_block(shard.number, rows)


class ShardSink(Datasink[None]):
    """Commits every row of SHARD_SCHEMA as one shard file."""

    def __init__(self, shards: Location, rows_per_shard: int) -> None:
        self.shards = shards
        self.rows_per_shard = rows_per_shard

    def write(self, blocks: Iterable[Block], ctx: TaskContext) -> None:
        for block in blocks:
            table = BlockAccessor.for_block(block).to_arrow()
            for number, payload in zip(table.column("shard").to_pylist(), table.column("rows"), strict=True):
                rows = unpack_rows(payload)
                write_shard(self.shards, Shard(number, number * self.rows_per_shard, rows.num_rows), rows)
