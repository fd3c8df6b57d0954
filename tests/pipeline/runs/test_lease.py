"""One start works on a run: a living one is never disturbed, a dead one never waited for, and no clock is trusted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import OutputError
from pipeline.runs.lease import STALE_S, Lease
from pipeline.storage import locate

ROOT = Path(__file__).parents[3]
ACQUIRE = """
import sys
from pipeline.runs.lease import Lease
from pipeline.storage import locate
lease = Lease(locate(sys.argv[1]), print)
lease.acquire()
print(lease.holder.process, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "out/_run").mkdir(parents=True)
    return tmp_path / "out/_run/lease.json"


class Waiting:
    """Counts the seconds that somebody waits, and lets something happen after some of them."""

    def __init__(self, at_s=None, happens=None):
        self.at_s, self.happens, self.waited_s = at_s, happens, 0.0

    def __call__(self, seconds):
        self.waited_s += seconds
        if self.at_s is not None and self.waited_s >= self.at_s:
            self.happens()
            self.at_s = None


def lease(file, wait=None, said=None):
    return Lease(locate(str(file)), (said if said is not None else []).append, wait or Waiting())


def changed(file, **fields):
    """The lease with other fields, as another machine or another moment would have written them."""
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def test_a_second_start_is_refused_as_soon_as_the_first_shows_life_and_is_told_whose_it_is(file):
    first, said = lease(file), []
    first.acquire()
    waiting, before = Waiting(2, first.renew), file.read_text()
    with pytest.raises(OutputError) as caught:
        lease(file, waiting, said).acquire()
    host, process = first.holder.host, os.getpid()
    assert f"out' is being worked on by process {process} on {host}, started 20" in str(caught.value)
    assert waiting.waited_s == 2 and "watching it" in said[0] and len(said) == 1
    assert file.read_text() != before and json.loads(file.read_text())["start"] == first.holder.start
    first.check()


@pytest.mark.parametrize("clock", ["1970-01-01T00:00:00+00:00", "2999-01-01T00:00:00+00:00"])
def test_the_holders_clock_does_not_matter(file, clock):
    lease(file).acquire()
    elsewhere = {"machine": "another boot", "host": "far", "started": clock, "heartbeat": clock}
    changed(file, **elsewhere)
    waiting = Waiting(3, lambda: changed(file, num_heartbeats=7))  # the same wrong time again, but it lives
    with pytest.raises(OutputError, match=f"process {os.getpid()} on far"):
        lease(file, waiting).acquire()
    waiting, second = Waiting(), None
    second = lease(file, waiting)
    second.acquire()
    assert waiting.waited_s == STALE_S and json.loads(file.read_text())["start"] == second.holder.start


def test_a_start_that_was_stopped_and_taken_over_finds_out_and_takes_nothing_back(file):
    first, second = lease(file), lease(file)
    first.acquire()
    second.acquire()  # it never moved
    first.renew()
    with pytest.raises(OutputError, match=r"was taken over by process \d+ on"):
        first.check()
    first.release()
    second.renew()
    second.check()
    second.release()
    assert not file.exists()


def test_a_process_that_is_gone_from_this_machine_is_not_waited_for(file):
    with subprocess.Popen(
        [sys.executable, "-c", ACQUIRE, str(file)], stdin=-1, stdout=-1, text=True, cwd=ROOT
    ) as other:
        pid = int(other.stdout.readline())
        with pytest.raises(OutputError, match=f"being worked on by process {pid} on"):
            lease(file, Waiting(1, lambda: changed(file, num_heartbeats=9))).acquire()
        other.kill()
        other.wait()
    waiting = Waiting()
    lease(file, waiting).acquire()
    assert waiting.waited_s == 0


def test_another_process_of_the_same_number_is_not_the_holder(file):
    lease(file).acquire()
    changed(file, born=1)
    waiting = Waiting()
    lease(file, waiting).acquire()
    assert waiting.waited_s == 0


def test_a_released_lease_is_free_at_once_also_while_it_is_watched(file):
    first = lease(file)
    first.acquire()
    waiting = Waiting(4, first.release)
    second = lease(file, waiting)
    second.acquire()
    second.check()
    assert waiting.waited_s == 4


def test_a_lease_that_nobody_can_read_is_watched_like_any_other(file):
    file.write_text("")
    waiting = Waiting()
    lease(file, waiting).acquire()
    assert waiting.waited_s == STALE_S


def test_of_two_at_the_same_moment_one_is_refused(file, monkeypatch):
    """The second one looks before the first has written."""
    first, second = lease(file), lease(file, Waiting(1, lambda: first.renew()))
    monkeypatch.setattr(second, "_read", lambda: first.acquire() if not file.exists() else file.read_text())
    with pytest.raises(OutputError, match="is being worked on"):
        second.acquire()
    first.renew()
    first.check()
