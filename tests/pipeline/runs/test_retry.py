"""Error rows done again: only they are read, only they change, and a merge that was cut off is done over."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.dataset.columns import check_columns
from pipeline.dataset.parts import Gathering, part_files
from pipeline.dataset.plan import Span, plan_input
from pipeline.dataset.reading import read_shards
from pipeline.dataset.schema import build_table, output_schema
from pipeline.dataset.shards import write_shard
from pipeline.records import RowResult
from pipeline.runs.directory import RunDirectory
from pipeline.runs.fingerprint import Sources
from pipeline.runs.outputs import StageOutput
from pipeline.runs.retry import begin_retry, count_error_rows, end_retry, merge_retry, open_retry
from tests.configs import fake_config

GOOD = RowResult("stars", 0, "stop", response="first", reward=0.5)
BAD = RowResult("stars", 0, "error", error_type="out_of_memory", error="no room")
AGAIN = RowResult("stars", 0, "stop", response="again", reward=1.5)
SOURCES = Sources(Path(__file__).parent, ("test_retry.py",))
BAD_ROWS = [0, 5, 6, 13, 22]


@pytest.fixture
def gathered(tmp_path):
    """23 rows in part files of 5, five of them bad, with columns whose types are easily lost."""
    kinds = pa.array([f"k{i % 3}" for i in range(23)]).dictionary_encode()
    rows = pa.table({"prompt": [f"p{i}" for i in range(23)], "kind": kinds, "nothing": pa.nulls(23)})
    pq.write_table(rows, tmp_path / "in.parquet")
    plan = plan_input(str(tmp_path / "in.parquet"), 4, None)
    config = fake_config(input=str(tmp_path / "in.parquet"), output=str(tmp_path / "out"))
    columns, run = check_columns(plan.schema, config), RunDirectory.open(config, plan, SOURCES)
    stage = run.aligned
    stage.shards.create_directory()
    for shard, table in read_shards(plan, columns, Span(0, 23)):
        numbers = range(shard.first_row, shard.first_row + shard.num_rows)
        write_shard(stage.shards, shard, build_table(table, [BAD if i in BAD_ROWS else GOOD for i in numbers], "stars"))
    schema = output_schema(plan.schema.append(pa.field("id", pa.string())), "stars")
    Gathering(plan, stage.shards, stage.parts, schema, 5).gather(range(5))
    return plan, columns, stage


def output(stage):
    return StageOutput(tuple(part_files(stage.parts)))


def read(stage):
    return pa.concat_tables(pq.read_table(part.path) for part in part_files(stage.parts))


def redo(retry):
    retry.shards.create_directory()
    for shard, table in read_shards(retry.plan, retry.columns, Span(0, retry.plan.num_rows)):
        write_shard(retry.shards, shard, build_table(table, [AGAIN] * shard.num_rows, "stars"))


def test_only_the_error_rows_are_read_and_only_they_change(gathered):
    plan, columns, stage = gathered
    before = read(stage)
    untouched = (stage.parts / "part-00003.parquet").path
    inode = os.stat(untouched).st_ino
    assert begin_retry(plan, columns, stage, output(stage)) == 5 == count_error_rows(output(stage))
    retry = open_retry(plan, columns, stage)
    assert retry.row_indices.tolist() == BAD_ROWS and retry.plan.num_rows == 5
    _, rows = next(read_shards(retry.plan, retry.columns, Span(0, 5)))
    assert rows["id"].to_pylist() == [f"in.parquet:{i}" for i in BAD_ROWS[:4]]
    assert rows.schema.names == ["prompt", "kind", "nothing", "id"]
    redo(retry)
    merge_retry(retry, output(stage))
    end_retry(stage)
    after = read(stage)
    assert after["response"].to_pylist() == ["again" if i in BAD_ROWS else "first" for i in range(23)]
    assert after.schema.equals(before.schema)
    kept = np.array([i not in BAD_ROWS for i in range(23)])
    assert after.filter(kept).equals(before.filter(kept))
    names = ["prompt", "kind", "nothing", "id"]
    assert after.select(names).to_pylist() == before.select(names).to_pylist()
    assert os.stat(untouched).st_ino == inode, "a part without an error row was rewritten"
    assert open_retry(plan, columns, stage) is None and begin_retry(plan, columns, stage, output(stage)) == 0


def test_a_merge_that_was_killed_half_way_is_done_over(gathered):
    plan, columns, stage = gathered
    begin_retry(plan, columns, stage, output(stage))
    retry = open_retry(plan, columns, stage)
    redo(retry)
    first = part_files(stage.parts)[0]
    saved = pq.read_table(part_files(stage.parts)[1].path)
    merge_retry(retry, output(stage))
    pq.write_table(saved, part_files(stage.parts)[1].path)  # as if only the first file had been renamed
    assert begin_retry(plan, columns, stage, output(stage)) == 5, (
        "the rows are those written down, not those that are still bad"
    )
    merge_retry(open_retry(plan, columns, stage), output(stage))
    assert read(stage)["response"].to_pylist() == ["again" if i in BAD_ROWS else "first" for i in range(23)]
    assert pq.read_metadata(first.path).num_rows == 5


def test_results_of_another_retry_are_never_merged(gathered):
    plan, columns, stage = gathered
    begin_retry(plan, columns, stage, output(stage))
    redo(open_retry(plan, columns, stage))
    rows_file = stage.retry / "rows.parquet"
    rows_file.filesystem.delete_file(rows_file.path)  # killed inside `end_retry`
    begin_retry(plan, columns, stage, output(stage))
    assert not open_retry(plan, columns, stage).shards.exists()
