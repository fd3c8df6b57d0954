"""The fault campaign: a short one on fake models, how faults are drawn, and error rows that are injected."""

import os
import re
import subprocess
import sys
from collections import Counter

import pyarrow.parquet as pq
import pytest

from jobs.chaos.campaign import draw_faults
from jobs.chaos.error_rows import inject_error_rows
from jobs.chaos.faults import FAULTS
from jobs.output_comparison import compare_outputs
from tests.jobs.made_up_outputs import GOOD, IDS, write_output
from tests.ray_head import ROOT

FAKES = [
    *("policy.backend=fake", "reward.backend=fake", "policy.fake_call_ms=25", "reward.fake_call_ms=15"),
    *("strategy.reward_threshold=0.5", "max_rows=40", "generation.max_new_tokens=64"),
    *("engine.slots=4", "coordinator.call_timeout_s=3"),  # a run is long enough for several faults
]


@pytest.mark.ray
def test_all_kinds_of_faults_several_in_a_run_cost_no_row(tmp_path):
    """In a process of its own, since the session's cluster is not to be struck."""
    options = ["--kills", str(len(FAULTS)), "--seed", "3", "--longest-delay-s", "2", "--folder", f"{tmp_path}/chaos"]
    command = [sys.executable, "-m", "jobs.chaos", *options, *FAKES]
    wide = os.environ | {"COLUMNS": "300"}  # one line a run
    ended = subprocess.run(command, cwd=ROOT, env=wide, capture_output=True, text=True, timeout=900, check=False)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    assert f"{len(FAULTS)} faults in" in ended.stdout and "0 lost, 0 duplicated" in ended.stdout
    struck = {
        run: faults.split(", ") for run, faults in re.findall(r"^(run-\d+.*?): (.+) → ", ended.stdout, re.MULTILINE)
    }
    assert sorted(fault for faults in struck.values() for fault in faults) == sorted(FAULTS), ended.stdout
    assert max(map(len, struck.values())) >= 3 and "run-000 --retry-errors" in struck, ended.stdout


def test_faults_are_drawn_by_the_seed_and_of_every_kind():
    faults = draw_faults(100, seed=7, longest_delay_s=5.0)
    assert faults == draw_faults(100, seed=7, longest_delay_s=5.0) != draw_faults(100, seed=8, longest_delay_s=5.0)
    counts = Counter(fault.kind for fault in faults)
    assert counts.keys() == FAULTS.keys() and max(counts.values()) - min(counts.values()) <= 1
    assert {fault.kind for fault in faults if fault.in_retry} == set(FAULTS)


def test_injected_error_rows_are_error_rows_and_no_other_is_touched(tmp_path):
    reference, output = (write_output(tmp_path / name, IDS, GOOD) for name in ("reference", "output"))
    inject_error_rows(output, {"b", "d"})
    assert compare_outputs(reference, output).num_different == 2
    rows = [row for file in sorted(output.glob("*.parquet")) for row in pq.read_table(file).to_pylist()]
    assert [(row["id"], row["error_type"]) for row in rows if row["response"] is None] == [
        ("b", "out_of_memory"),
        ("d", "out_of_memory"),
    ]
