"""Progress without a terminal: a first line, a last line, and figures that fit the usage."""

import io
import threading

import numpy as np
import pytest
from rich.console import Console

from actors.batch.monitor import Monitor, Process
from actors.batch.progress import Progress, Snapshot, format_seconds
from actors.batch.supervision import supervised
from pipeline.protocol import CallStats
from pipeline.runs.usage import CoordinatorUsage, RoleUsage

USAGE = CoordinatorUsage(
    num_rows_done=30, num_segments=60, num_attempts=120, num_accepted_by_rule=48, num_response_tokens=900
)


def test_figures_follow_from_the_usage():
    snapshot = Snapshot("aligned", num_rows=100, num_rows_before=10, elapsed_s=10.0, usage=USAGE)
    assert snapshot.num_rows_done == 40 and snapshot.seconds_left == 20.0
    assert snapshot.figures() == "60 segments · 40% accepted · 90 accepted tokens/s · 20s left"


def test_rows_done_again_after_a_fault_never_exceed_the_total():
    assert Snapshot("aligned", 35, 10, 1.0, USAGE).num_rows_done == 35


def test_before_the_first_row_nothing_is_promised():
    assert "– accepted" in Snapshot("aligned", 9, 0, 0.0, CoordinatorUsage()).figures()
    assert "? left" in Snapshot("aligned", 9, 0, 3.0, CoordinatorUsage()).figures()


def shown(console, *states):
    progress = Progress(console, "aligned", 30, 0)
    for usage in states[:-1]:
        progress.show(usage)
    progress.show(states[-1], is_last=True)
    progress.close()


def test_without_a_terminal_the_first_and_the_last_state_are_lines():
    console = Console(file=io.StringIO(), width=40, force_terminal=False)
    shown(console, CoordinatorUsage(), USAGE, USAGE)
    lines = console.file.getvalue().splitlines()
    assert lines[0].startswith("aligned: 0/30 prompts") and lines[-1].startswith("aligned: 30/30 prompts")
    assert len(lines) == 2, "the state between them came too soon for a line"


def test_a_terminal_gets_a_bar():
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    shown(console, USAGE)
    assert "30/30" in console.file.getvalue()


class Broken(io.StringIO):
    def write(self, text):
        raise OSError("the terminal is gone")


def test_a_view_that_fails_is_dropped_once_and_harms_nobody(caplog):
    progress = Progress(Console(file=Broken(), force_terminal=False), "aligned", 30, 0)
    progress.show(USAGE)
    progress.report("a model died")
    progress.show(USAGE, is_last=True)
    progress.close()
    assert [record.getMessage() for record in caplog.records] == [
        "progress is not shown any more: OSError: the terminal is gone"
    ]


def test_supervision_polls_beside_the_work_and_once_after_it(monkeypatch):
    monkeypatch.setattr("actors.batch.supervision.SUPERVISION_INTERVAL_S", 0.01)
    polled, enough = [], threading.Event()

    def poll():
        polled.append(None)
        if len(polled) == 3:
            enough.set()

    supervised(lambda: enough.wait(60) or pytest.fail("never polled beside the work"), poll)
    assert len(polled) >= 4


@pytest.mark.parametrize("fails", ["work", "poll"])
def test_an_error_of_the_work_or_of_its_supervision_ends_both(monkeypatch, fails):
    monkeypatch.setattr("actors.batch.supervision.SUPERVISION_INTERVAL_S", 0.01)
    released = threading.Event()

    def fail():
        raise ZeroDivisionError(fails)

    try:
        with pytest.raises(ZeroDivisionError, match=fails):
            supervised(fail if fails == "work" else released.wait, fail if fails == "poll" else lambda: None)
    finally:
        released.set()


def test_the_monitor_counts_a_coordinator_once_however_often_it_pushes():
    monitor = Monitor(("node", "node"))
    early = CoordinatorUsage(num_rows_done=1, policy=RoleUsage(1, 4, 9, 0.5, 1.0, 101.0))
    late = CoordinatorUsage(num_rows_done=3, policy=RoleUsage(2, 8, 18, 1.0, 4.0, 104.0))
    for usage in (early, late, late):
        monitor.push(0, "a", Process("actor", 1), usage)
    successor = CoordinatorUsage(num_rows_done=2, policy=RoleUsage(1, 2, 3, 1.0, 1.0, 101.0))
    monitor.push(0, "b", Process("actor", 2), successor)
    other = CoordinatorUsage(num_rows_done=9, policy=RoleUsage(1, 1, 1, 5.0, 5.0, 105.0))
    monitor.push(1, "c", Process("other", 3), other)
    cells = monitor.by_cell()
    assert cells[0].num_rows_done == 5 and cells[0].policy == RoleUsage(3, 10, 21, 2.0, 5.0, 104.0)
    assert cells[0].policy.busy_fraction == 2.0 / 5.0 and cells[1] == other
    assert monitor.total() == cells[0] + cells[1]
    assert monitor.total().policy.busy_fraction == 7.0 / 10.0 and monitor.total().reward == RoleUsage()


def test_the_usage_of_an_actor_spans_its_first_call_to_its_last():
    def call(started_s, ended_s):
        return CallStats(np.array([3, 4], dtype=np.int32), started_s, ended_s)

    usage = RoleUsage().add(call(10.0, 11.0), queue_wait_s=4.0).add(call(14.0, 15.0), queue_wait_s=2.0)
    assert (usage.busy_s, usage.actor_s, usage.busy_fraction) == (2.0, 5.0, 0.4)
    assert (usage.mean_cohort_size, usage.mean_queue_wait_s, usage.tokens_per_s) == (2.0, 1.5, 14 / 5)


def test_seconds_read_well():
    assert [format_seconds(s) for s in (0, 59.4, 61, 3600, 7322)] == ["0s", "59s", "1m01s", "1h00m", "2h02m"]
