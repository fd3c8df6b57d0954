"""Two part files of four rows, written by hand."""

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset.schema import build_table
from pipeline.records import RowResult, SegmentRecord
from tests.configs import fake_config
from tests.run_folders import add_run_files


def result(i, reward=0.5, response=None):
    segment = SegmentRecord(4, 0.5, 0.25, 0.75, 2, "rule")
    return RowResult("stars", 0, "stop", response=response or f"answer {i}", reward=reward, segments=(segment,))


def write_output(folder, ids, results):
    folder.mkdir()
    table = build_table(pa.table({"id": ids}), results, "stars")
    pq.write_table(table.slice(0, 2), folder / "part-00000.parquet")
    pq.write_table(table.slice(2), folder / "part-00001.parquet")
    add_run_files(folder, fake_config(output=str(folder)))
    return folder


IDS, GOOD = ["a", "b", "c", "d"], [result(i) for i in range(4)]
