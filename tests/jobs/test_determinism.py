"""The comparison of two outputs counts rows by column, to the last bit."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.determinism.measuring import DeterminismError, compare
from pipeline.dataset.schema import build_table
from pipeline.records import RowResult, SegmentRecord


def write(folder, ids, rewards, responses):
    segment = SegmentRecord(4, 0.5, 0.25, 0.75, 2, "rule")
    results = [
        RowResult("stars", 0, "stop", response=response, reward=reward, segments=(segment,))
        for reward, response in zip(rewards, responses, strict=True)
    ]
    folder.mkdir()
    pq.write_table(build_table(pa.table({"id": ids}), results, "stars"), folder / "part-00000.parquet")
    return folder


def test_rows_are_compared_column_by_column(tmp_path):
    first = write(tmp_path / "a", ["x", "y", "z"], [0.5, 0.5, 0.5], ["one", "two", "three"])
    second = write(tmp_path / "b", ["x", "y", "z"], [0.5, 0.5 + 1e-12, 0.6], ["one", "two", "tree"])
    assert compare("same", "two cells", first, first).num_different == {"response": 0, "reward": 0, "segments": 0}
    assert compare("other", "two cells", first, second).num_different == {"response": 1, "reward": 2, "segments": 0}


def test_outputs_of_other_rows_are_not_compared(tmp_path):
    first = write(tmp_path / "a", ["x", "y"], [0.5, 0.5], ["one", "two"])
    second = write(tmp_path / "b", ["y", "x"], [0.5, 0.5], ["two", "one"])
    with pytest.raises(DeterminismError, match="other rows"):
        compare("same", "two cells", first, second)
