"""`_run/metrics.json`: its names stay, its ratios are those of the counters, and it is read back as written."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.dataset.schema import build_table
from pipeline.protocol import CallStats
from pipeline.runs.metrics import Comparison, RunMetrics, measure_output, measure_stage
from pipeline.runs.outputs import StageOutput
from pipeline.runs.usage import CoordinatorUsage, RoleUsage
from pipeline.storage import locate
from tests.configs import fake_config
from tests.pipeline.made_up_rows import BAD, GOOD

COUNTS = ("num_calls", "num_rows", "num_tokens", "busy_s", "prefill_s", "sampling_s")
RATIOS = ("busy_fraction", "mean_cohort_size", "tokens_per_s", "mean_queue_wait_s")
ROLE = (*COUNTS, *RATIOS, "peak_bytes", "expected_peak_bytes")
SUMS = ("actor_s", "last_ended_s", "queue_wait_s", "num_rows_squared", "row_busy_s")  # of which the ratios are made
NAMES = {
    "": "aligned baseline comparison wall_s",
    "aligned": "strategy totals mean_reward acceptance_rate fallback_rate response_tokens_per_row "
    "policy_tokens_per_row reward_tokens_per_row wall_s num_rows_this_start rows_per_s response_tokens_per_s "
    "slot_occupancy policy reward cells advice",
    "aligned.totals": "num_rows num_error_rows error_rows_by_type num_prompt_tokens num_response_tokens "
    "num_policy_tokens num_reward_tokens num_segments num_attempts num_fallbacks num_stopped reward_sum",
    "aligned.cells.0": "cell num_rows_done slot_occupancy policy reward",
    "aligned.advice": "role gain other_gain sentence",
    "comparison": "num_prompts mean_reward baseline_mean_reward win_rate win_rate_standard_error",
}


def usage(rows, seconds):
    """Two calls of one actor: of `rows` rows each, with half a second between them."""
    role = RoleUsage()
    for start_s in (100.0, 100.0 + seconds + 0.5):
        stats = CallStats(np.full(rows, 3, np.int32), start_s, start_s + seconds, prefill_s=0.25, sampling_s=0.125)
        role = role.add(stats, queue_wait_s=2.0)
    return role


@pytest.fixture
def metrics(tmp_path):
    rows = pa.table({"id": ["a", "b"]})
    pq.write_table(build_table(rows, [GOOD, BAD], "stars"), tmp_path / "part-00000.parquet")
    cells = {0: CoordinatorUsage(1, 0, 2, policy=usage(4, 1.0), reward=usage(2, 0.5))}
    totals = measure_output(StageOutput((locate(str(tmp_path / "part-00000.parquet")),)))
    stage = measure_stage(fake_config(), totals, cells, 8.0)
    stage = replace(stage, policy=replace(stage.policy, peak_bytes=11, expected_peak_bytes=10))
    return RunMetrics(stage, None, Comparison(1, 0.5, 0.25, 0.5, None), 9.0)


def saved(metrics, folder):
    metrics.save(locate(str(folder / "metrics.json")))
    return json.loads((folder / "metrics.json").read_text())


def at(tree, path):
    for name in filter(None, path.split(".")):
        tree = tree[int(name)] if name.isdigit() else tree[name]
    return tree


def test_every_name_is_there(metrics, tmp_path):
    tree = saved(metrics, tmp_path)
    for path, names in NAMES.items():
        assert list(at(tree, path)) == names.split(), path
    for role in ("aligned.policy", "aligned.reward", "aligned.cells.0.policy", "aligned.cells.0.reward"):
        assert set(at(tree, role)) == {*ROLE, *SUMS}, role


def test_a_roles_figures_by_hand(metrics, tmp_path):
    tree = saved(metrics, tmp_path)
    figures = dict(zip(ROLE, (2, 8, 24, 2.0, 0.5, 0.25, 2 / 2.5, 4.0, 24 / 2.5, 0.5, 11, 10), strict=True))
    assert {name: tree["aligned"]["policy"][name] for name in ROLE} == figures
    cell = {name: tree["aligned"]["cells"][0]["policy"][name] for name in ROLE}
    assert cell == figures | {"peak_bytes": None, "expected_peak_bytes": None}
    idle = saved(replace(metrics, aligned=replace(metrics.aligned, reward=RoleUsage())), tmp_path)["aligned"]["reward"]
    assert idle["busy_fraction"] == idle["mean_cohort_size"] == idle["tokens_per_s"] == idle["mean_queue_wait_s"] == 0.0


def test_it_is_read_back_as_it_was_written(metrics, tmp_path):
    saved(metrics, tmp_path)
    again = RunMetrics.load(locate(str(tmp_path / "metrics.json")))
    assert again == metrics and again.aligned.policy.call_s(4) == metrics.aligned.policy.call_s(4) == 1.0


def test_two_actors_add_up_but_their_peaks_do_not():
    one, other = (replace(usage(4, 1.0), peak_bytes=peak) for peak in (7, None))
    both = one + other
    assert (both.num_calls, both.busy_s, both.actor_s, both.last_ended_s) == (4, 4.0, 5.0, one.last_ended_s)
    assert both.peak_bytes == 7 and both.expected_peak_bytes is None and both.busy_fraction == one.busy_fraction
