"""The output's schema and files: contract 4, shards into parts, and what another run left behind."""

import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.dataset.plan import plan_input
from pipeline.dataset.schema import SEGMENT_TYPE, build_table, output_schema
from pipeline.dataset.shards import committed_shards, gather_parts, part_files, shard_file, write_shard
from pipeline.errors import OutputError
from pipeline.records import RowResult, SegmentRecord
from pipeline.runs.directory import RunDirectory
from pipeline.runs.metrics import measure_output
from pipeline.storage import locate
from tests.configs import fake_config

GOOD = RowResult(
    "stars",
    1,
    "stop",
    response="yes",
    reward=0.5,
    num_response_tokens=3,
    segments=(SegmentRecord(2, 0.1, 0.2, 0.3, 4, "rule"), SegmentRecord(1, 0.5, 0.2, 1.0, 20, "fallback")),
)
BAD = RowResult("stars", 1, "error", error_type="null_prompt", error="lone \ud800 surrogate")


def test_good_and_bad_rows_share_one_schema():
    rows = pa.table({"id": [1], "note": pa.nulls(1)})
    good, bad = build_table(rows, [GOOD], "stars"), build_table(rows, [BAD], "stars")
    assert good.schema.equals(bad.schema) and good.schema.equals(output_schema(rows.schema, "stars"))
    assert good.schema.field("segments").type == pa.list_(SEGMENT_TYPE)
    assert good.schema.field("reward").type == pa.float64() and good.schema.field("seed").type == pa.int64()
    assert bad["response"].to_pylist() == [None] and bad["segments"].to_pylist() == [[]]
    assert bad["error"].to_pylist() == ["lone \\ud800 surrogate"]
    assert good["segments"].to_pylist()[0][1]["accepted_by"] == "fallback"


def test_best_of_n_keeps_its_candidates():
    result = RowResult("best_of_n", 1, "stop", response="b", responses=("a", "b"), rewards=(0.1, 0.2))
    table = build_table(pa.table({"id": [1]}), [result], "best_of_n")
    assert table["responses"].to_pylist() == [["a", "b"]] and table["rewards"].to_pylist() == [[0.1, 0.2]]


def test_a_missing_result_is_no_output():
    with pytest.raises(AssertionError, match="2 rows, but 1 results"):
        build_table(pa.table({"id": [1, 2]}), [GOOD], "stars")


def odd_rows(num_rows):
    """Columns that travel badly, so that a lost type shows."""
    return pa.table(
        {
            "id": np.arange(num_rows),
            "prompt": [f"p{i}" for i in range(num_rows)],
            "nothing": pa.nulls(num_rows),
            "when": pa.array([datetime.datetime(2020, 1, 1)] * num_rows, pa.timestamp("us", "Europe/Berlin")),
            "kind": pa.array([f"k{i % 3}" for i in range(num_rows)]).dictionary_encode(),
            "nested": pa.array([[{"a": [1, None]}], None][i % 2] for i in range(num_rows)),
            "bytes": pa.array([b"\0\0"] * num_rows),
        }
    )


@pytest.mark.parametrize(("num_rows", "rows_per_file"), [(0, 5), (1, 5), (10, 5), (23, 5), (23, 7), (23, 100)])
def test_shards_become_parts_in_input_order(tmp_path, num_rows, rows_per_file):
    rows = odd_rows(num_rows)
    pq.write_table(rows, tmp_path / "in.parquet")
    plan = plan_input(str(tmp_path / "in.parquet"), 4, None)
    out, shards = locate(str(tmp_path / "out")), locate(str(tmp_path / "out/_run/shards"))
    shards.create_directory()
    for number in reversed(range(plan.num_shards)):
        shard = plan.shard(number)
        part = rows.slice(shard.first_row, shard.num_rows)
        write_shard(shards, shard, build_table(part, [GOOD, BAD, GOOD, BAD][: shard.num_rows], "stars"))
    schema = output_schema(plan.schema, "stars")
    for _ in range(2):  # as when killed before the shards are deleted
        gather_parts(plan, shards, out, schema, rows_per_file)
    sizes = [pq.read_metadata(file.path).num_rows for file in part_files(out)]
    assert sum(sizes) == num_rows and len(sizes) == max(1, -(-num_rows // rows_per_file))
    assert all(size == rows_per_file for size in sizes[:-1])
    output = pa.concat_tables(pq.read_table(file.path) for file in part_files(out))
    assert output.schema.equals(schema) and output.schema.metadata == schema.metadata
    assert output.select(rows.schema.names).to_pylist() == rows.to_pylist()
    assert len(pd.read_parquet(tmp_path / "out")) == num_rows  # `_run` is not taken for output
    totals = measure_output(out)
    assert totals.num_rows == num_rows and totals.num_error_rows == sum(i % 4 % 2 for i in range(num_rows))
    assert totals.num_segments == 2 * totals.num_good_rows and totals.num_fallbacks == totals.num_good_rows
    assert totals.num_attempts == 24 * totals.num_good_rows


def test_a_missing_or_wrong_shard_is_noticed(tmp_path):
    pq.write_table(odd_rows(8), tmp_path / "in.parquet")
    plan = plan_input(str(tmp_path / "in.parquet"), 4, None)
    out, schema = locate(str(tmp_path)), output_schema(plan.schema, "stars")
    write_shard(out, plan.shard(0), build_table(odd_rows(4), [GOOD] * 4, "stars"))
    with pytest.raises(OutputError, match="shard-00000001"):
        gather_parts(plan, out, out, schema, 100)
    shard_file(out, 0).filesystem.copy_file(shard_file(out, 0).path, shard_file(out, 1).path)
    with pytest.raises(OutputError, match="from row 0 on, not 4 from row 4"):
        gather_parts(plan, out, out, schema, 100)
    assert not part_files(out), "a part that could not be finished must not appear"


@pytest.mark.parametrize("damage", [b"", b"PAR1", bytes(4000)])
def test_a_damaged_shard_is_removed_so_that_the_next_start_makes_it_anew(tmp_path, damage):
    pq.write_table(odd_rows(8), tmp_path / "in.parquet")
    plan, out = plan_input(str(tmp_path / "in.parquet"), 4, None), locate(str(tmp_path))
    for number in range(2):
        write_shard(out, plan.shard(number), build_table(odd_rows(4), [GOOD] * 4, "stars"))
    (tmp_path / "shard-00000001.parquet").write_bytes(damage)
    with pytest.raises(OutputError, match=r"shard-00000001\.parquet' was damaged and is removed"):
        gather_parts(plan, out, out, output_schema(plan.schema, "stars"), 100)
    assert committed_shards(out).tolist() == [0] and not part_files(out)


def test_a_killed_writers_file_is_no_shard(tmp_path):
    plan_rows = build_table(odd_rows(2), [GOOD, BAD], "stars")
    pq.write_table(odd_rows(2), tmp_path / "in.parquet")
    plan = plan_input(str(tmp_path / "in.parquet"), 2, None)
    (tmp_path / "shards").mkdir()
    shards = locate(str(tmp_path / "shards"))
    write_shard(shards, plan.shard(0), plan_rows)
    (tmp_path / "shards/.tmp-half").write_bytes(b"PAR1")
    assert committed_shards(shards).tolist() == [0]
    assert [p.name for p in (tmp_path / "shards").iterdir()] == ["shard-00000000.parquet"]


def run_of(tmp_path, **sections):
    config = fake_config(input=str(tmp_path / "in.parquet"), output=str(tmp_path / "out"), **sections)
    return RunDirectory.open(config, plan_input(config.input, config.dataset.rows_per_shard, config.max_rows))


def commit_one_shard(output):
    (output / "_run/shards").mkdir()
    (output / "_run/shards/shard-00000000.parquet").write_bytes(b"rows")


def test_a_run_that_never_committed_a_row_stands_in_nobodys_way(tmp_path):
    pq.write_table(odd_rows(8), tmp_path / "in.parquet")
    run_of(tmp_path, seed=5)
    assert run_of(tmp_path, seed=6).manifest.seed == 6
    commit_one_shard(tmp_path / "out")
    with pytest.raises(OutputError, match=r"seed was 6, now 7"):
        run_of(tmp_path, seed=7)


def test_input_of_the_same_size_but_other_content_is_another_input(tmp_path):
    path = tmp_path / "in.parquet"
    pq.write_table(odd_rows(8), path)
    run_of(tmp_path)
    commit_one_shard(tmp_path / "out")
    content = bytearray(path.read_bytes())
    content[10] ^= 1  # inside the first data page
    path.write_bytes(content)
    with pytest.raises(OutputError, match="input files was"):
        run_of(tmp_path)


def test_only_the_same_run_may_go_on(tmp_path):
    pq.write_table(odd_rows(8), tmp_path / "in.parquet")
    run = run_of(tmp_path)
    assert not run.is_finished
    commit_one_shard(tmp_path / "out")
    assert not run_of(tmp_path, engine={"slots": 4}, coordinator={"cohorts_in_flight": 1}).is_finished
    with pytest.raises(OutputError, match=r"seed was 0, now 1"):
        run_of(tmp_path, seed=1)
    with pytest.raises(OutputError, match=r"strategy\.name was 'stars', now 'vanilla'"):
        run_of(tmp_path, strategy={"name": "vanilla"})
    run.mark_finished()
    assert run_of(tmp_path).is_finished
    pq.write_table(odd_rows(9), tmp_path / "in.parquet")
    with pytest.raises(OutputError, match="input rows was 8, now 9"):
        run_of(tmp_path)


def test_output_that_is_not_ours_is_left_alone(tmp_path):
    pq.write_table(odd_rows(8), tmp_path / "in.parquet")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/part-00000.parquet").write_bytes(b"precious")
    with pytest.raises(OutputError, match="something else"):
        run_of(tmp_path)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["part-00000.parquet"]


def test_an_output_that_cannot_be_written_is_refused(tmp_path):
    pq.write_table(odd_rows(1), tmp_path / "in.parquet")
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(OutputError, match="is a file"):
        run_of(tmp_path)
    config = fake_config(input=str(tmp_path / "in.parquet"), output=str(tmp_path / "out/deeper"))
    with pytest.raises(OutputError, match="cannot be written"):
        RunDirectory.open(config, plan_input(config.input, 4, None))


def test_a_run_goes_on_with_its_own_shards_whatever_the_number_of_cells(tmp_path):
    pq.write_table(pa.table({"prompt": [f"text {i}" for i in range(4000)]}), tmp_path / "in.parquet")
    config = fake_config(input=str(tmp_path / "in.parquet"), output=str(tmp_path / "out"))
    sizes = [plan_input(config.input, None, None, cells).rows_per_shard for cells in (1, 2, 8, 64, 1000)]
    assert sizes == [16, 16, 62, 16, 16], (
        "8 rows for every cell, but no less than 8 shards each, and never under 16 rows"
    )
    eight, one = plan_input(config.input, None, None, 8), plan_input(config.input, None, None, 1)
    run = RunDirectory.open(config, eight)
    assert run.kept_plan(eight) == eight
    again = RunDirectory.open(config, one)
    assert again.kept_plan(one) == one, "nothing is committed yet"
    run = RunDirectory.open(config, eight)
    run.aligned.shards.create_directory()
    (run.aligned.shards / "shard-00000000.parquet").write_text("")
    again = RunDirectory.open(config, one)
    assert again.kept_plan(one) == eight


def test_an_output_inside_a_submitted_job_s_copy_of_the_working_directory_is_refused(tmp_path, monkeypatch):
    pq.write_table(odd_rows(1), tmp_path / "in.parquet")
    job = tmp_path / "session/runtime_resources/working_dir_files/_ray_pkg_0"
    job.mkdir(parents=True)
    monkeypatch.chdir(job)
    config = fake_config(input=str(tmp_path / "in.parquet"), output="outputs/a")
    with pytest.raises(OutputError, match="give an absolute path or a URI"):
        RunDirectory.open(config, plan_input(config.input, 4, None))
