"""The growth measurement looks at the right processes and counts committed rows."""

import os
import subprocess
import sys

from jobs.growth.measuring import GrowthRun, _ancestors, _memory_mb, _most_by_quarter, _names


def test_memory_and_descent_are_read_from_the_system():
    child = subprocess.Popen([sys.executable, "-c", "x = bytearray(50_000_000); input()"], stdin=subprocess.PIPE)
    try:
        assert os.getpid() in _ancestors(child.pid) and child.pid not in _ancestors(os.getpid())
        assert _memory_mb(os.getpid()) > 5
    finally:
        child.communicate()
    assert _memory_mb(child.pid) == 0


def test_rows_of_committed_shards_are_counted_and_no_others(tmp_path):
    run = GrowthRun(tmp_path / "growth", num_rows=1000, rows_per_shard=100)
    assert run._num_committed() == 0 and _names(tmp_path / "none") == []
    shards = tmp_path / "growth/out/_run/shards"
    shards.mkdir(parents=True)
    for name in ("shard-00000000.parquet", "shard-00000004.parquet", ".tmp-half"):
        (shards / name).touch()
    assert run._num_committed() == 200


def test_memory_is_told_by_quarters_of_the_time():
    assert _most_by_quarter([1.0, 3.0, 2.0, 1.0, 5.0, 4.0, 6.0, 1.0]) == [3.0, 2.0, 5.0, 6.0]
    assert _most_by_quarter([1.0, 2.0]) == [1.0, 1.0, 2.0, 2.0]
