"""The run directory: what another run left behind is refused or left alone, and which start may go on."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.dataset.plan import plan_input
from pipeline.errors import OutputError
from pipeline.runs.directory import RunDirectory
from pipeline.runs.fingerprint import Sources
from tests.configs import fake_config
from tests.pipeline.made_up_rows import odd_rows

SOURCES = Sources(Path(__file__).parent, ("test_directory.py",))


def run_of(tmp_path, **sections):
    config = fake_config(input=str(tmp_path / "in.parquet"), output=str(tmp_path / "out"), **sections)
    return RunDirectory.open(config, plan_input(config.input, config.dataset.rows_per_shard, config.max_rows), SOURCES)


def commit_one_shard(run):
    with run.held(print):
        run.aligned.shards.create_directory()
        (run.aligned.shards / "shard-00000000.parquet").write_text("rows")


def test_a_run_that_never_committed_a_row_stands_in_nobodys_way(tmp_path):
    pq.write_table(odd_rows(8), tmp_path / "in.parquet")
    with run_of(tmp_path, seed=5).held(print):
        pass
    assert run_of(tmp_path, seed=6).manifest.seed == 6
    commit_one_shard(run_of(tmp_path, seed=6))
    with pytest.raises(OutputError, match=r"seed was 6, now 7"):
        run_of(tmp_path, seed=7)


def test_input_of_the_same_size_but_other_content_is_another_input(tmp_path):
    path = tmp_path / "in.parquet"
    pq.write_table(odd_rows(8), path)
    commit_one_shard(run_of(tmp_path))
    content = bytearray(path.read_bytes())
    content[10] ^= 1  # inside the first data page
    path.write_bytes(content)
    with pytest.raises(OutputError, match="input files was"):
        run_of(tmp_path)


def test_only_the_same_run_may_go_on(tmp_path):
    pq.write_table(odd_rows(8), tmp_path / "in.parquet")
    run = run_of(tmp_path)
    assert not run.is_finished
    commit_one_shard(run)
    assert not run_of(tmp_path, engine={"slots": 4}, coordinator={"cohorts_in_flight": 1}).is_finished
    with pytest.raises(OutputError, match=r"seed was 0, now 1"):
        run_of(tmp_path, seed=1)
    with pytest.raises(OutputError, match=r"strategy\.name was 'stars', now 'vanilla'"):
        run_of(tmp_path, strategy={"name": "vanilla"})
    with run.held(print):
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
    (tmp_path / "out/part-00000.parquet").unlink()
    (tmp_path / "out/_run/shards").mkdir(parents=True)
    (tmp_path / "out/_run/shards/shard-00000003.parquet").write_bytes(b"of nobody knows which config")
    with pytest.raises(OutputError, match="something else"):
        run_of(tmp_path)


def test_an_output_that_cannot_be_written_is_refused(tmp_path):
    pq.write_table(odd_rows(1), tmp_path / "in.parquet")
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(OutputError, match="is a file"):
        run_of(tmp_path)
    config = fake_config(input=str(tmp_path / "in.parquet"), output=str(tmp_path / "out/deeper"))
    with pytest.raises(OutputError, match="cannot be written"):
        RunDirectory.open(config, plan_input(config.input, 4, None), SOURCES)


def test_a_run_goes_on_with_its_own_shards_whatever_the_number_of_cells(tmp_path):
    pq.write_table(pa.table({"prompt": [f"text {i}" for i in range(4000)]}), tmp_path / "in.parquet")
    config = fake_config(input=str(tmp_path / "in.parquet"), output=str(tmp_path / "out"))
    sizes = [plan_input(config.input, None, None, cells).rows_per_shard for cells in (1, 2, 8, 64, 1000)]
    assert sizes == [16, 16, 62, 16, 16], (
        "8 rows for every cell, but no less than 8 shards each, and never under 16 rows"
    )
    eight, one = plan_input(config.input, None, None, 8), plan_input(config.input, None, None, 1)
    run = RunDirectory.open(config, eight, SOURCES)
    assert run.kept_plan(eight) == eight
    again = RunDirectory.open(config, one, SOURCES)
    assert again.kept_plan(one) == one, "nothing is committed yet"
    commit_one_shard(RunDirectory.open(config, eight, SOURCES))
    again = RunDirectory.open(config, one, SOURCES)
    assert again.kept_plan(one) == eight


def test_an_output_inside_a_submitted_job_s_copy_of_the_working_directory_is_refused(tmp_path, monkeypatch):
    pq.write_table(odd_rows(1), tmp_path / "in.parquet")
    job = tmp_path / "session/runtime_resources/working_dir_files/_ray_pkg_0"
    job.mkdir(parents=True)
    monkeypatch.chdir(job)
    config = fake_config(input=str(tmp_path / "in.parquet"), output="outputs/a")
    with pytest.raises(OutputError, match="give an absolute path or a URI"):
        RunDirectory.open(config, plan_input(config.input, 4, None), SOURCES)


def test_a_start_that_is_refused_or_only_looks_writes_nothing(tmp_path):
    pq.write_table(odd_rows(8), tmp_path / "in.parquet")
    run_of(tmp_path)
    assert list((tmp_path / "out").rglob("*")) == [tmp_path / "out/_run"]
    run = run_of(tmp_path)
    commit_one_shard(run)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    with pytest.raises(OutputError, match="seed was 0, now 1"):
        run_of(tmp_path, seed=1)
    run_of(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


def test_a_start_removes_what_dead_ones_left_half_written_and_another_start_never_does(tmp_path):
    pq.write_table(odd_rows(8), tmp_path / "in.parquet")
    run = run_of(tmp_path)
    folders = ["", "_run", "_run/shards", "_run/retry/shards", "_run/baseline", "_run/baseline/shards"]
    left = [tmp_path / "out" / folder / ".tmp-left" for folder in folders]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    with run.held(print):
        assert not any(path.exists() for path in left)
        with (run.aligned.shards / "shard-00000000.parquet").atomic_writer() as stream:
            stream.write(b"rows")
            (under_way,) = (tmp_path / "out/_run/shards").glob(".tmp-*")
            run_of(tmp_path)  # a second start, which looks and is refused before it writes
            assert under_way.exists()
        (tmp_path / "out/_run/shards" / f"{under_way.name}0").write_bytes(b"a task that was killed")
    kept = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert kept == {"manifest.json", "config.yaml", "shard-00000000.parquet"}


def test_a_start_that_lost_the_run_keeps_its_hands_off_the_manifest(tmp_path):
    pq.write_table(odd_rows(8), tmp_path / "in.parquet")
    first, lease = run_of(tmp_path), tmp_path / "out/_run/lease.json"
    with (
        pytest.raises(OutputError, match=r"was taken over by process \d+ on .*; this start has lost it"),
        first.held(print),
    ):
        first.aligned.shards.create_directory()
        before = (tmp_path / "out/_run/manifest.json").read_text()
        taken = lease.read_text().replace(first.root.writer, "another start")
        lease.write_text(taken)
        first.mark_gathered(first.aligned)
    assert (tmp_path / "out/_run/manifest.json").read_text() == before
    assert first.aligned.shards.exists() and lease.read_text() == taken
