"""The fault campaign: a short one against fakes, and that its comparison sees every kind of damage."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.chaos.campaign import draw_faults
from jobs.chaos.error_rows import spoil
from jobs.chaos.faults import FAULTS
from jobs.chaos.outcome import compare
from pipeline.dataset.schema import build_table
from pipeline.records import RowResult, SegmentRecord

ROOT = Path(__file__).parents[2]
FAKES = [
    *("policy.backend=fake", "reward.backend=fake", "policy.fake_call_ms=25", "reward.fake_call_ms=15"),
    *("strategy.reward_threshold=0.5", "max_rows=32", "generation.max_new_tokens=64"),
    "coordinator.call_timeout_s=3",
]


@pytest.mark.ray
def test_one_fault_of_each_kind_costs_no_row(tmp_path):
    """In a process of its own, since the session's cluster is not to be struck."""
    options = [
        "--kills",
        str(len(FAULTS)),
        "--seed",
        "3",
        "--longest-delay-s",
        "2",
        "--folder",
        str(tmp_path / "chaos"),
    ]
    command = [sys.executable, "-m", "jobs.chaos", *options, *FAKES]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    assert f"{len(FAULTS)} faults in" in ended.stdout and "0 lost, 0 duplicated" in ended.stdout
    assert "run-000 --retry-errors: " in ended.stdout
    for kind in FAULTS:
        assert kind in ended.stdout


def test_faults_are_drawn_by_the_seed_and_of_every_kind():
    faults = draw_faults(100, seed=7, longest_delay_s=5.0)
    assert faults == draw_faults(100, seed=7, longest_delay_s=5.0) != draw_faults(100, seed=8, longest_delay_s=5.0)
    counts = Counter(fault.kind for fault in faults)
    assert counts.keys() == FAULTS.keys() and max(counts.values()) - min(counts.values()) <= 1
    assert {fault.kind for fault in faults if fault.in_retry} == set(FAULTS)


def result(i, reward=0.5, response=None):
    segment = SegmentRecord(4, reward, 0.25, 0.75, 2, "rule")
    return RowResult("stars", 0, "stop", response=response or f"answer {i}", reward=reward, segments=(segment,))


def write(folder, ids, results):
    folder.mkdir()
    table = build_table(pa.table({"id": ids}), results, "stars")
    pq.write_table(table.slice(0, 2), folder / "part-00000.parquet")
    pq.write_table(table.slice(2), folder / "part-00001.parquet")
    return folder


def test_spoiled_rows_are_error_rows_and_no_other_is_touched(tmp_path):
    reference, output = (write(tmp_path / name, IDS, GOOD) for name in ("reference", "output"))
    spoil(output, {"b", "d"})
    assert compare(reference, output).num_different == 2
    rows = [row for file in sorted(output.glob("*.parquet")) for row in pq.read_table(file).to_pylist()]
    assert [(row["id"], row["error_type"]) for row in rows if row["response"] is None] == [
        ("b", "out_of_memory"),
        ("d", "out_of_memory"),
    ]


IDS, GOOD = ["a", "b", "c", "d"], [result(i) for i in range(4)]


@pytest.mark.parametrize(
    ("ids", "results", "seen"),
    [
        (IDS, GOOD, {}),
        (["a", "b", "d"], [GOOD[0], GOOD[1], GOOD[3]], {"num_lost": 1}),
        ([*IDS, "b"], [*GOOD, GOOD[1]], {"num_duplicated": 1}),
        (["b", "a", "c", "d"], [GOOD[1], GOOD[0], *GOOD[2:]], {"num_misplaced": 2}),
        (IDS, [result(0, response="other"), *GOOD[1:]], {"num_different": 1}),
        (IDS, [result(0, reward=0.5 + 1e-12), *GOOD[1:]], {"num_different": 1}),
    ],
)
def test_every_kind_of_damage_is_seen(tmp_path, ids, results, seen):
    outcome = compare(write(tmp_path / "reference", IDS, GOOD), write(tmp_path / "output", ids, results))
    counts = {name: getattr(outcome, name) for name in ("num_lost", "num_duplicated", "num_different", "num_misplaced")}
    wanted = {name: seen.get(name, 0) for name in counts}
    assert counts == wanted
    assert outcome.is_clean == (not any(wanted.values()))
