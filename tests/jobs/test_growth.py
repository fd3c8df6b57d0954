"""The measurement of growth, whole on a few rows; it looks at the right processes and counts committed rows."""

import csv
import os
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from jobs.growth.growth_run import GrowthRun, _ancestors, _memory_mb, _most_by_quarter
from jobs.growth.plot import draw_growth
from jobs.started_job import JobFailed

NUM_ROWS = 120


@pytest.mark.ray
def test_a_job_is_killed_at_half_resumed_and_started_once_more(tmp_path):
    run = GrowthRun(tmp_path / "growth", NUM_ROWS, rows_per_shard=3, interval_s=0.1)
    console = Console(width=120)
    with console.capture() as shown:
        console.print(run.measure())
    for words in ("start 1: rows/s", "start 2: most coordinator_mb", "nothing done", "done", "seconds to the end"):
        assert words in shown.get()
    folder = tmp_path / "growth"
    output = pq.read_table(folder / "out")
    assert output["id"].to_pylist() == list(range(NUM_ROWS)) and output["error"].null_count == NUM_ROWS
    assert (folder / "job.log").read_text().count("is finished: nothing to do") == 1, "the third start"

    counts = [sample.num_rows for sample in run.samples]
    assert counts == sorted(counts) and counts[0] == 0
    killed = next(i for i, count in enumerate(counts) if count >= NUM_ROWS // 2)
    assert counts[killed] < NUM_ROWS and counts[killed + 1] >= counts[killed], "what was committed is kept"
    for samples in (run.samples[: killed + 1], run.samples[killed + 1 :]):
        assert max(sample.coordinator_mb for sample in samples) > 10
        assert max(sample.driver_mb for sample in samples) > 10
    rows = list(csv.DictReader((folder / "samples.csv").read_text().splitlines()))
    assert [int(row["num_rows"]) for row in rows] == counts
    draw_growth(run.samples, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


def test_a_job_that_fails_is_an_error_that_names_its_log(tmp_path):
    run = GrowthRun(tmp_path / "growth", 10, overrides=["strategy.betta=1"], interval_s=0.1)
    with pytest.raises(JobFailed, match=r"jobs\.align ended with 2; see .*/job\.log"):
        run.measure()


def test_memory_and_descent_are_read_from_the_system():
    child = subprocess.Popen([sys.executable, "-c", "x = bytearray(50_000_000); input()"], stdin=subprocess.PIPE)
    try:
        assert os.getpid() in _ancestors(child.pid) and child.pid not in _ancestors(os.getpid())
        assert _memory_mb(os.getpid()) > 5
    finally:
        child.communicate()
    assert _memory_mb(child.pid) == 0


def test_rows_of_committed_shards_are_counted_and_no_others(tmp_path):
    run = GrowthRun(tmp_path / "growth", num_rows=250, rows_per_shard=100)
    assert run._num_committed() == 0
    shards = tmp_path / "growth/out/_run/shards"
    shards.mkdir(parents=True)
    for name in ("shard-00000000.parquet", "shard-00000002.parquet", ".tmp-half"):
        (shards / name).touch()
    assert run._num_committed() == 200
    (shards / "shard-00000001.parquet").touch()
    assert run._num_committed() == 250, "the last shard is shorter"


def test_memory_is_shown_by_quarters_of_the_time():
    assert _most_by_quarter([1.0, 3.0, 2.0, 1.0, 5.0, 4.0, 6.0, 1.0]) == [3.0, 2.0, 5.0, 6.0]
    assert _most_by_quarter([1.0, 2.0]) == [1.0, 1.0, 2.0, 2.0]
