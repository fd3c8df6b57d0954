"""A long input goes through several graphs: together they do every shard that is not committed, each once."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.dataset import graph as dataset
from pipeline.dataset.graph import graph_ranges, spans_between
from pipeline.dataset.plan import plan_input


@pytest.fixture
def plan(tmp_path):
    """103 rows in one row group, in shards of 4."""
    pq.write_table(pa.table({"prompt": ["hi"] * 103}), tmp_path / "in.parquet")
    return plan_input(str(tmp_path / "in.parquet"), 4, None)


@pytest.mark.parametrize("committed", [[], [0, 1, 7, 25], list(range(26))])
def test_every_waiting_shard_is_in_one_leg(plan, monkeypatch, committed):
    monkeypatch.setattr(dataset, "MAX_SHARDS_PER_GRAPH", 10)
    monkeypatch.setattr(dataset, "MIN_SHARDS_PER_GRAPH_AND_CELL", 1)
    ranges = list(graph_ranges(plan, np.array(committed, np.int64)))
    waiting = [[i for i in range(first, end) if i not in committed] for first, end in ranges]
    assert [i for shards in waiting for i in shards] == [i for i in range(26) if i not in committed]
    assert all(len(shards) <= 10 for shards in waiting) and len(ranges) == -(-(26 - len(committed)) // 10)


def test_spans_are_cut_to_a_leg_also_inside_one_row_group(plan):
    spans = [list(spans_between(plan, 16, *leg)) for leg in ((0, 10), (10, 20), (20, 26))]
    assert [(span.first_row, span.end_row) for leg in spans for span in leg] == [
        (0, 40),
        (40, 80),
        (80, 100),
        (100, 103),
    ]
