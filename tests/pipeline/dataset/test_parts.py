"""Shards become part files: in input order, of the same types, by any number of tasks, never from damaged shards."""

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.dataset.parts import Gathering, part_file, part_files
from pipeline.dataset.plan import plan_input
from pipeline.dataset.schema import build_table, output_schema
from pipeline.dataset.shards import committed_shards, shard_file, write_shard
from pipeline.errors import OutputError
from pipeline.runs.metrics import measure_output
from pipeline.runs.outputs import StageOutput
from pipeline.storage import locate
from tests.pipeline.made_up_rows import BAD, GOOD, odd_rows


def gather(plan, shards, parts, rows_per_file):
    gathering = Gathering(plan, shards, parts, output_schema(plan.schema, "stars"), rows_per_file)
    for numbers in reversed(list(gathering.tasks())):
        gathering.gather(numbers)
    gathering.finish()


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
    (tmp_path / "out/part-00000077.parquet").write_bytes(b"of another start")
    for _ in range(2):  # as when killed before the shards are deleted
        gather(plan, shards, out, rows_per_file)
    sizes = [pq.read_metadata(file.path).num_rows for file in part_files(out)]
    assert sum(sizes) == num_rows and len(sizes) == max(1, -(-num_rows // rows_per_file))
    assert all(size == rows_per_file for size in sizes[:-1])
    output = pa.concat_tables(pq.read_table(file.path) for file in part_files(out))
    assert output.schema.equals(schema) and output.schema.metadata == schema.metadata
    assert output.select(rows.schema.names).to_pylist() == rows.to_pylist()
    assert len(pd.read_parquet(tmp_path / "out")) == num_rows  # `_run` is not taken for output
    totals = measure_output(StageOutput(tuple(part_files(out))))
    assert totals.num_rows == num_rows and totals.num_error_rows == sum(i % 4 % 2 for i in range(num_rows))
    assert totals.num_segments == 2 * totals.num_good_rows and totals.num_fallbacks == totals.num_good_rows
    assert totals.num_attempts == 24 * totals.num_good_rows


def test_a_missing_or_wrong_shard_is_noticed(tmp_path):
    pq.write_table(odd_rows(8), tmp_path / "in.parquet")
    plan = plan_input(str(tmp_path / "in.parquet"), 4, None)
    out = locate(str(tmp_path))
    write_shard(out, plan.shard(0), build_table(odd_rows(4), [GOOD] * 4, "stars"))
    with pytest.raises(OutputError, match="shard-00000001"):
        gather(plan, out, out, 100)
    shard_file(out, 0).filesystem.copy_file(shard_file(out, 0).path, shard_file(out, 1).path)
    with pytest.raises(OutputError, match="from row 0 on, not 4 from row 4"):
        gather(plan, out, out, 100)
    assert not part_files(out), "a part that could not be finished must not appear"


@pytest.mark.parametrize("damage", [b"", b"PAR1", bytes(4000)])
def test_a_damaged_shard_is_removed_so_that_the_next_start_makes_it_anew(tmp_path, damage):
    pq.write_table(odd_rows(8), tmp_path / "in.parquet")
    plan, out = plan_input(str(tmp_path / "in.parquet"), 4, None), locate(str(tmp_path))
    for number in range(2):
        write_shard(out, plan.shard(number), build_table(odd_rows(4), [GOOD] * 4, "stars"))
    (tmp_path / "shard-00000001.parquet").write_bytes(damage)
    with pytest.raises(OutputError, match=r"shard-00000001\.parquet' was damaged and is removed"):
        gather(plan, out, out, 100)
    assert committed_shards(out).tolist() == [0] and not part_files(out)


def test_a_half_written_file_is_no_shard_and_stays_its_writers(tmp_path):
    plan_rows = build_table(odd_rows(2), [GOOD, BAD], "stars")
    pq.write_table(odd_rows(2), tmp_path / "in.parquet")
    plan = plan_input(str(tmp_path / "in.parquet"), 2, None)
    (tmp_path / "shards").mkdir()
    shards = locate(str(tmp_path / "shards"))
    write_shard(shards, plan.shard(0), plan_rows)
    (tmp_path / "shards/.tmp-half").write_bytes(b"PAR1")
    assert committed_shards(shards).tolist() == [0]
    assert {p.name for p in (tmp_path / "shards").iterdir()} == {"shard-00000000.parquet", ".tmp-half"}


@pytest.mark.parametrize(
    ("num_rows", "names"),
    [
        (3, ["part-00000", "part-00002"]),
        (100_000, ["part-00000", "part-99999"]),
        (100_001, ["part-000000", "part-100000"]),
    ],
)
def test_names_sort_in_input_order_however_many_there_are(num_rows, names):
    folder = locate("memory://parts")
    files = [part_file(folder, number, num_rows) for number in range(num_rows)]
    assert [files[0].name, files[-1].name] == [f"{name}.parquet" for name in names]
    assert [file.name for file in files] == sorted(file.name for file in files)


def test_outputs_of_any_width_are_read_in_input_order(tmp_path):
    for name in ("part-100000", "part-99999", "part-00000", "part-12", "other-1"):
        (tmp_path / f"{name}.parquet").touch()
    names = [file.name for file in part_files(locate(str(tmp_path)))]
    assert names == ["part-00000.parquet", "part-12.parquet", "part-99999.parquet", "part-100000.parquet"]


def test_tasks_share_the_parts_and_small_parts_share_a_task(tmp_path):
    pq.write_table(pa.table({"prompt": pa.nulls(250_001, pa.string())}), tmp_path / "in.parquet")
    plan = plan_input(str(tmp_path / "in.parquet"), None, None)
    out = locate(str(tmp_path))
    for rows_per_file, tasks in ((100_000, [1, 1, 1]), (60_000, [1] * 5), (40_000, [2, 2, 2, 1]), (10**6, [1])):
        ranges = list(Gathering(plan, out, out, plan.schema, rows_per_file).tasks())
        assert [len(numbers) for numbers in ranges] == tasks
        assert [n for numbers in ranges for n in numbers] == list(range(sum(tasks)))
