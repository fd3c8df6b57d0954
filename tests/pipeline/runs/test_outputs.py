"""The one reader of outputs: what it refuses, in which order rows come, and what of a row it never looks at."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.dataset.schema import build_table
from pipeline.errors import InputError, OutputError
from pipeline.records import RowResult
from pipeline.runs.manifest import new_manifest, read_manifest
from pipeline.runs.outputs import finished_run, stage_output
from pipeline.runs.run_rows import read_run
from pipeline.storage import locate
from tests.configs import fake_config
from tests.pipeline.made_up_rows import BAD, GOOD
from tests.run_folders import add_run_files
from tests.test_layout import PACKAGES, ROOT

NOT_TEXT = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff"], pa.binary()).buffers())
TURNS = [{"role": "user", "content": "asked", "name": "a key of the input's own"}]
READERS = {
    "pipeline/dataset/parts.py": "writes them",
    "pipeline/runs/outputs.py": "the reader",
    "pipeline/runs/directory.py": "only asks whether there are any",
    "jobs/chaos/error_rows.py": "writes them anew",
}


def write_rows(folder, *parts, **run_files):
    """A run whose part files, by name, hold the rows with these ids; the bad ones have a prompt that is no text."""
    folder.mkdir(exist_ok=True)
    for name, ids in parts:
        prompts = pa.concat_arrays([NOT_TEXT if i < 0 else pa.array([f"prompt {i}"]) for i in ids])
        rows = pa.table({"id": ids, "prompt": prompts})
        pq.write_table(build_table(rows, [BAD if i < 0 else GOOD for i in ids], "stars"), folder / name)
    add_run_files(folder, fake_config(), **run_files)
    return str(folder)


def test_rows_come_in_input_order_and_error_rows_prompts_are_not_looked_at(tmp_path):
    output = write_rows(
        tmp_path / "out",
        ("part-100000.parquet", [5, -6]),
        ("part-99999.parquet", [-3, 4]),
        ("part-00000.parquet", [1, 2]),
    )
    rows = list(finished_run(output).aligned.rows(["id", "prompt", "nothing"]))
    assert [row["id"] for row in rows] == [1, 2, -3, 4, 5, -6]
    assert [row.is_error for row in rows] == [False, False, True, False, False, True]
    assert rows[3].messages(fake_config()) == [{"role": "user", "content": "prompt 4"}] and rows[0]["nothing"] is None
    with pytest.raises(UnicodeDecodeError):
        rows[2]["prompt"]
    found = read_run(output)
    assert found.ids == ["1", "2", "4", "5"] and found.questions[2] == "prompt 4"
    assert found.num_rows == 6 and found.error_rows_by_type == {"null_prompt": 2}


@pytest.mark.parametrize(
    ("run_files", "words"),
    [
        ({"status": "running"}, "is not finished; start its command again"),
        ({"status": "running", "gathered": ("aligned",)}, "is not finished; start its command again"),
        ({"fingerprint": {"input rows": 3}}, "hold 2 rows, not the 3 that the run wrote"),
    ],
)
def test_a_run_that_is_not_whole_is_refused_by_name(tmp_path, run_files, words):
    output = write_rows(tmp_path / "out", ("part-00000.parquet", [1, 2]), **run_files)
    for read in (finished_run, read_run):
        with pytest.raises(InputError) as caught:
            read(output)
        assert words in str(caught.value) and output in str(caught.value)
    assert write_rows(tmp_path / "out", fingerprint={"input rows": 2}) and finished_run(output).aligned.num_rows() == 2


@pytest.mark.parametrize("damage", ["manifest.json", "config.yaml", None])
def test_what_is_no_run_is_refused_by_name(tmp_path, damage):
    output = write_rows(tmp_path / "out", ("part-00000.parquet", [1]))
    if damage is None:
        output = str(tmp_path / "nowhere")
    else:
        (tmp_path / "out/_run" / damage).write_text("{{")
    with pytest.raises(InputError, match=r"holds no run of jobs\.align") as caught:
        finished_run(output)
    assert output in str(caught.value) and "\n" not in str(caught.value)


def test_a_stage_is_read_once_it_is_gathered_and_no_sooner(tmp_path):
    write_rows(tmp_path / "out", ("part-00000.parquet", [1]), status="running", gathered=("baseline",))
    root = locate(str(tmp_path / "out"))
    with pytest.raises(OutputError, match=r"the aligned rows in .* are not all gathered"):
        stage_output(read_manifest(root), "aligned", root)
    assert stage_output(read_manifest(root), "baseline", root).num_rows() == 1
    with pytest.raises(OutputError, match="are not all gathered"):
        stage_output(new_manifest({}, 0), "baseline", root)


def test_beside_messages_a_prompt_is_not_looked_at(tmp_path):
    columns = {"id": [1], "prompt": NOT_TEXT, "messages": pa.array([TURNS])}
    (tmp_path / "out").mkdir()
    pq.write_table(build_table(pa.table(columns), [GOOD], "stars"), tmp_path / "out/part-00000.parquet")
    add_run_files(tmp_path / "out", fake_config())
    (row,) = finished_run(str(tmp_path / "out")).aligned.rows(["prompt", "messages"])
    assert row.messages(fake_config()) == TURNS
    assert read_run(str(tmp_path / "out")).conversations == [[{"role": "user", "content": "asked"}]]


def test_a_rows_own_length_is_known(tmp_path):
    own = pa.array([{"max_new_tokens": 7, "top_k": 1}, None, {"max_new_tokens": None, "top_k": 2}])
    rows = pa.table({"id": ["a", "b", "c"], "prompt": ["x"] * 3, "sampling_params": own})
    (tmp_path / "out").mkdir()
    pq.write_table(build_table(rows, [GOOD] * 3, "stars"), tmp_path / "out/part-00000.parquet")
    add_run_files(tmp_path / "out", fake_config(generation={"max_new_tokens": 24}))
    assert read_run(str(tmp_path / "out")).figure("max_new_tokens").tolist() == [7, 24, 24]


def test_nobody_else_looks_for_part_files():
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    sources = {path.relative_to(ROOT).as_posix(): path.read_text() for path in paths}
    found = {name for name, text in sources.items() if "part_files(" in text or 'glob("part-' in text}
    assert found == READERS.keys()


def test_a_column_of_another_version_that_is_not_there_is_null(tmp_path):
    (tmp_path / "out").mkdir()
    table = build_table(pa.table({"id": ["a"], "prompt": ["x"]}), [RowResult("stars", 0, "stop", "r", 1.0)], "stars")
    pq.write_table(table.drop_columns("num_reward_calls"), tmp_path / "out/part-00000.parquet")
    add_run_files(tmp_path / "out", fake_config())
    assert read_run(str(tmp_path / "out")).table["num_reward_calls"].to_pylist() == [None]
