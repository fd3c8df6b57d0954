"""From files to a plan, from a plan to shards: order, ids, schemas, and what is refused."""

import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.dataset import duplicates
from pipeline.dataset.columns import check_columns
from pipeline.dataset.duplicates import find_duplicates
from pipeline.dataset.files import reads
from pipeline.dataset.plan import MAX_SHARDS, Span, plan_input
from pipeline.dataset.reading import read_shards
from pipeline.errors import InputError
from pipeline.storage import locate
from tests.configs import fake_config


def write(path, group_rows=1000, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=group_rows)


def read_all(plan, read_rows=4, config=None):
    columns = check_columns(plan.schema, config or fake_config())
    spans = list(plan.spans(read_rows))
    return spans, [shard for span in spans for shard in read_shards(plan, columns, span)]


@pytest.mark.parametrize("rows_per_shard", [1, 3, 5, 100])
@pytest.mark.parametrize("read_rows", [1, 4, 1000])
@pytest.mark.parametrize("group_rows", [1, 2, 7, 1000])
def test_every_row_is_in_exactly_one_shard_in_order(tmp_path, rows_per_shard, read_rows, group_rows):
    sizes = [4, 0, 1, 9, 13]
    ids = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    for i, part in enumerate(ids):
        write(tmp_path / f"{i}.parquet", group_rows, id=pa.array(part, pa.int64()), prompt=[str(n) for n in part])
    plan = plan_input(str(tmp_path), rows_per_shard, None)
    spans, shards = read_all(plan, read_rows)
    assert [number for shard, _ in shards for number in [shard.number]] == list(range(plan.num_shards))
    assert pa.concat_tables(rows for _, rows in shards)["id"].to_pylist() == list(range(27))
    assert all(rows.num_rows == shard.num_rows == min(rows_per_shard, 27 - shard.first_row) for shard, rows in shards)
    assert [span.first_row for span in spans[1:]] == [span.end_row for span in spans[:-1]]


def test_shards_cross_row_groups_larger_than_a_read_batch(tmp_path):
    write(tmp_path / "a.parquet", 3000, id=range(5000), prompt=["x"] * 5000)
    _, shards = read_all(plan_input(str(tmp_path), 700, None), 1500)
    assert pa.concat_tables(rows for _, rows in shards)["id"].to_pylist() == list(range(5000))


def test_max_rows_ends_inside_a_file(tmp_path):
    write(tmp_path / "a.parquet", id=range(10), prompt=["x"] * 10)
    write(tmp_path / "b.parquet", id=range(10, 20), prompt=["x"] * 10)
    _, shards = read_all(plan_input(str(tmp_path), 4, 13))
    assert pa.concat_tables(rows for _, rows in shards)["id"].to_pylist() == list(range(13))


def test_files_are_sorted_and_hidden_ones_skipped(tmp_path):
    for name in ("b.parquet", "a/z.parquet", "_run/x.parquet", ".hidden.parquet", "note.txt"):
        write(tmp_path / name, prompt=["x"])
    plan = plan_input(str(tmp_path), 4, None)
    assert [file.relative_path for file in plan.files] == ["a/z.parquet", "b.parquet"]
    assert [file.relative_path for file in plan_input(f"{tmp_path}/*/*.parquet", 4, None).files] == ["a/z.parquet"]
    assert plan_input(f"file://{tmp_path}/b.parquet", 4, None).num_rows == 1


def test_absent_ids_become_file_and_position(tmp_path):
    write(tmp_path / "a.parquet", 2, prompt=["x", "y", "z"])
    write(tmp_path / "sub/b.parquet", prompt=["x"])
    _, shards = read_all(plan_input(str(tmp_path), 2, None))
    ids = [row_id for _, rows in shards for row_id in rows["id"].to_pylist()]
    assert ids == ["a.parquet:0", "a.parquet:1", "a.parquet:2", "sub/b.parquet:0"]


def test_schemas_unify_where_no_value_changes(tmp_path):
    write(tmp_path / "a.parquet", id=pa.array([1], pa.int32()), prompt=["x"], extra=pa.nulls(1))
    write(tmp_path / "b.parquet", prompt=pa.array(["y"], pa.large_string()), id=[2**40], more=[[1.5]], extra=["e"])
    _, shards = read_all(plan_input(str(tmp_path), 5, None))
    ((_, rows),) = shards
    assert rows.to_pylist() == [
        {"id": 1, "prompt": "x", "extra": None, "more": None},
        {"id": 2**40, "prompt": "y", "extra": "e", "more": [1.5]},
    ]


@pytest.mark.parametrize("other", [pa.array(["t"]), pa.array([0.5]), pa.array([[1]])])
def test_schemas_that_do_not_fit_are_refused_by_name(tmp_path, other):
    write(tmp_path / "a.parquet", prompt=["x"], extra=[1])
    write(tmp_path / "b.parquet", prompt=["x"], extra=other)
    with pytest.raises(InputError, match=r"b\.parquet.*'extra'.*int64"):
        plan_input(str(tmp_path), 5, None)


def test_what_cannot_be_read_is_named(tmp_path):
    write(tmp_path / "prompts.parquet", prompt=["x"] * 1000)
    whole = (tmp_path / "prompts.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.parquet").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for name, words in (
        ("promts.parquet", r"does not exist; did you mean .*prompts\.parquet"),
        ("cut.parquet", "not a readable Parquet"),
        ("empty.parquet", "is empty"),
        ("folder", "holds no"),
        ("*.csv", "matches no file"),
    ):
        with pytest.raises(InputError, match=words):
            plan_input(str(tmp_path / name), 5, None)


@pytest.mark.parametrize(
    ("columns", "overrides", "words"),
    [
        ({"promt": ["x"]}, {}, "did you mean 'promt'"),
        ({"prompt": ["x"], "id": [[1]]}, {}, "'id' is list"),
        ({"prompt": ["x"], "uid": [1]}, {"id_column": "uidd"}, "id_column: .*did you mean 'uid'"),
        ({"prompt": ["x"], "chat": [1]}, {"messages_column": "chats"}, "messages_column: .*did you mean 'chat'"),
        ({"prompt": ["x"], "reward": [1]}, {}, "'reward' has the name of an output column"),
    ],
)
def test_columns_that_cannot_work_are_refused(columns, overrides, words):
    with pytest.raises(InputError, match=words):
        check_columns(pa.table(columns).schema, fake_config(**overrides))


def test_responses_column_clashes_only_with_best_of_n():
    schema = pa.table({"prompt": ["x"], "responses": ["x"]}).schema
    check_columns(schema, fake_config())
    with pytest.raises(InputError, match="'responses'"):
        check_columns(schema, fake_config(strategy={"name": "best_of_n"}))


def test_prompts_of_any_type_are_read_so_that_their_rows_can_name_the_fault():
    for data_type in (
        pa.int64(),
        pa.list_(pa.string()),
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int8(), pa.string()),
        pa.null(),
    ):
        check_columns(pa.schema([("prompt", data_type)]), fake_config())


def test_duplicates_are_the_later_rows(tmp_path):
    write(tmp_path / "a.parquet", id=["a", "b", None, "a"], prompt=["x"] * 4)
    write(tmp_path / "b.parquet", id=["b", None, "c", "a"], prompt=["x"] * 4)
    plan = plan_input(str(tmp_path), 4, None)
    columns = check_columns(plan.schema, fake_config())
    assert find_duplicates(plan, columns).tolist() == [3, 4, 7]
    assert find_duplicates(plan.head(4), columns).tolist() == [3]


def test_two_ids_of_one_hash_are_no_duplicates(tmp_path, monkeypatch):
    write(tmp_path / "a.parquet", id=["a", "b", "c", "b"], prompt=["x"] * 4)
    monkeypatch.setattr(duplicates, "_hash", lambda row_id: 1)
    plan = plan_input(str(tmp_path), 4, None)
    assert find_duplicates(plan, check_columns(plan.schema, fake_config())).tolist() == [3]


def test_a_damaged_page_is_an_input_error(tmp_path):
    write(tmp_path / "a.parquet", prompt=[f"{i} text" for i in range(1000)])
    whole = bytearray((tmp_path / "a.parquet").read_bytes())
    whole[4:400] = bytes(396)
    (tmp_path / "a.parquet").write_bytes(whole)
    plan = plan_input(str(tmp_path), 100, None)
    with pytest.raises(InputError, match=r"a\.parquet.*cannot be read"):
        list(read_shards(plan, check_columns(plan.schema, fake_config()), Span(0, 1000)))


@pytest.mark.parametrize(
    ("num_rows", "rows_per_shard"), [(0, 16), (1, 16), (64_000, 16), (64_001, 17), (1_000_000, 250)]
)
def test_long_inputs_get_longer_shards(tmp_path, num_rows, rows_per_shard):
    write(tmp_path / "a.parquet", id=pa.array(range(num_rows), pa.int64()))
    plan = plan_input(str(tmp_path), None, None)
    assert plan.rows_per_shard == rows_per_shard
    assert plan.num_shards <= MAX_SHARDS


def test_a_pipe_or_device_is_refused_before_it_can_block(tmp_path):
    write(tmp_path / "a.parquet", id=[1])
    os.mkfifo(tmp_path / "b.parquet")
    for name in (str(tmp_path), str(tmp_path / "b.parquet"), "/dev/null"):
        with pytest.raises(InputError, match="no regular file"):
            plan_input(name, None, None)


@pytest.mark.parametrize(
    ("text", "path", "is_read"),
    [
        ("", "out/part-00000.parquet", True),
        ("", "part-00000.parquet", True),
        ("", "_out/part-00000.parquet", False),
        ("*.parquet", "part-00000.parquet", True),
        ("*.parquet", "out/part-00000.parquet", False),
        ("in-*.parquet", "part-00000.parquet", False),
        ("a.parquet", "part-00000.parquet", False),
        ("", "../other/part-00000.parquet", False),
    ],
)
def test_an_output_among_the_input_is_seen(tmp_path, text, path, is_read):
    (tmp_path / "in").mkdir()
    write(tmp_path / "in/a.parquet", id=[1])
    assert reads(str(tmp_path / "in" / text), locate(os.path.normpath(tmp_path / "in" / path))) == is_read
