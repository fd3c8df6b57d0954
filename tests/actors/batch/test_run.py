"""The whole job on fake models: rows in, rows out, the same whatever carries them, and never done twice."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from ray._private import state

from actors.batch.deciding_sources import DECIDING_SOURCES
from actors.batch.run import run_align
from jobs.chaos.error_rows import inject_error_rows
from pipeline.dataset.columns import check_columns
from pipeline.dataset.plan import plan_input
from pipeline.dataset.shards import write_shard
from pipeline.errors import InputError, ModelError
from pipeline.runs.directory import RunDirectory
from pipeline.runs.metrics import RunMetrics
from pipeline.runs.retry import begin_retry
from pipeline.storage import locate
from tests.configs import fake_config

pytestmark = pytest.mark.ray
DATASET = {"rows_per_shard": 4, "read_rows": 8, "rows_per_file": 15}
OURS = ["response", "reward", "segments", "finish_reason", "error_type"]


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    """27 rows in two files: 22 good ones, five bad in different ways."""
    folder = tmp_path_factory.mktemp("prompts")
    texts = [f"Tell me about {i}" for i in range(27)]
    texts[3], texts[9], texts[14] = None, "  ", "long " * 2000
    ids = [f"r{i}" for i in range(27)]
    ids[20], ids[25] = ids[1], None
    table = pa.table({"id": ids, "prompt": texts, "kind": pa.array(["a", "b", "c"] * 9).dictionary_encode()})
    pq.write_table(table.slice(0, 10), folder / "a.parquet")
    pq.write_table(table.slice(10), folder / "b.parquet")
    return str(folder)


def run(prompts, output, retry_errors=False, **sections):
    config = fake_config(input=prompts, output=str(output), **({"dataset": DATASET} | sections))
    plan = plan_input(config.input, config.dataset.rows_per_shard, config.max_rows)
    return run_align(
        config,
        plan,
        check_columns(plan.schema, config),
        RunDirectory.open(config, plan, DECIDING_SOURCES),
        retry_errors,
    )


def read(output):
    files = sorted(output.glob("part-*.parquet"))
    return pa.concat_tables(pq.read_table(file) for file in files)


@pytest.fixture(scope="module")
def whole(ray_cluster, prompts, tmp_path_factory):
    """The rows of a run that nothing disturbs."""
    folder = tmp_path_factory.mktemp("whole")
    run(prompts, folder)
    return read(folder)


def test_every_row_leaves_once_in_order_with_its_response_or_its_error(ray_cluster, prompts, tmp_path, capsys):
    metrics = run(prompts, tmp_path / "out", baseline_rows=10, judge="embedded")
    output, given = read(tmp_path / "out"), pq.read_table(prompts)
    assert output.select(given.schema.names).equals(given.cast(output.select(given.schema.names).schema))
    faults = {3: "null_prompt", 9: "empty_prompt", 14: "prompt_too_long", 20: "duplicate_id", 25: "null_id"}
    assert output["error_type"].to_pylist() == [faults.get(i) for i in range(27)]
    assert output["response"].is_null().to_pylist() == [i in faults for i in range(27)]
    assert [pq.read_metadata(f).num_rows for f in sorted((tmp_path / "out").glob("*.parquet"))] == [15, 12]
    assert len(pd.read_parquet(tmp_path / "out")) == 27
    assert not (tmp_path / "out/_run/shards").exists()
    assert metrics.aligned.totals.num_error_rows == 5 and metrics.aligned.totals.num_rows == 27
    assert metrics.aligned.totals.num_attempts <= pc.sum(output["num_policy_calls"]).as_py()
    assert metrics.aligned.policy.num_rows == pc.sum(output["num_policy_calls"]).as_py()
    assert metrics.aligned.policy.num_tokens == metrics.aligned.totals.num_policy_tokens
    assert metrics.baseline is not None and metrics.baseline.totals.num_rows == 10
    assert metrics.comparison is not None and metrics.comparison.num_prompts == 8
    shown = capsys.readouterr().out
    for words in ("aligned: 27/27 prompts", "by vanilla, on the same 8 prompts", "5 error rows", "read_parquet"):
        assert words in shown
    assert max(len(line) for line in shown.splitlines() if "│" in line or "┃" in line) <= 80


def test_other_shards_cohorts_and_slots_give_the_same_rows(prompts, whole, tmp_path):
    other = {"rows_per_shard": 7, "read_rows": 1000, "rows_per_file": 1000}
    run(
        prompts,
        tmp_path / "out",
        dataset=other,
        engine={"slots": 3},
        coordinator={"cohorts_in_flight": 1, "max_cohort_size": 2},
    )
    assert read(tmp_path / "out").select(OURS).equals(whole.select(OURS))


def test_committed_shards_are_kept_and_a_finished_run_calls_no_model(prompts, whole, tmp_path, capsys):
    config = fake_config(input=prompts, output=str(tmp_path / "out"), dataset=DATASET)
    plan = plan_input(prompts, 4, None)
    left = RunDirectory.open(config, plan, DECIDING_SOURCES)
    with left.held(print):
        left.aligned.shards.create_directory()
    for number in (0, 3, 6):
        shard = plan.shard(number)
        rows = whole.slice(shard.first_row, shard.num_rows)
        mark = rows.schema.get_field_index("error")
        kept = rows.set_column(mark, "error", pa.array(["kept"] * rows.num_rows))
        write_shard(left.aligned.shards, shard, kept)
    (tmp_path / "out/_run/shards/.tmp-half").write_bytes(b"PAR1")
    metrics = run(prompts, tmp_path / "out")
    output = read(tmp_path / "out")
    kept_rows = [i for i in range(27) if i // 4 in (0, 3, 6)]
    assert [i for i, error in enumerate(output["error"].to_pylist()) if error == "kept"] == kept_rows
    assert output.select(OURS).equals(whole.select(OURS))
    assert metrics.aligned.num_rows_this_start == 27 - len(kept_rows)
    capsys.readouterr()
    again = run(prompts, tmp_path / "out")
    assert again == metrics == RunMetrics.load(RunDirectory.open(config, plan, DECIDING_SOURCES).metrics_file)
    assert "nothing to do" in capsys.readouterr().out


def test_error_rows_are_redone_and_no_other(ray_cluster, prompts, tmp_path, capsys):
    run(prompts, tmp_path / "out", baseline_rows=10)
    whole = read(tmp_path / "out")
    inject_error_rows(tmp_path / "out", {"r0", "r17"})
    inject_error_rows(tmp_path / "out/_run/baseline", {"r2"})
    assert "nothing to do" in (run(prompts, tmp_path / "out", baseline_rows=10), capsys.readouterr().out)[1]
    metrics = run(prompts, tmp_path / "out", retry_errors=True, baseline_rows=10)
    assert metrics.aligned.num_rows_this_start == 2 + 5, "two that had passed, five that never can"
    assert metrics.baseline.num_rows_this_start == 1 + 2
    assert read(tmp_path / "out").select(OURS).equals(whole.select(OURS))
    assert not (tmp_path / "out/_run/retry").exists()
    assert RunMetrics.load(locate(str(tmp_path / "out/_run/metrics.json"))) == metrics


def test_a_killed_retry_is_finished_by_a_plain_start(ray_cluster, prompts, tmp_path):
    run(prompts, tmp_path / "out")
    whole = read(tmp_path / "out")
    inject_error_rows(tmp_path / "out", {"r0", "r17"})
    config = fake_config(input=prompts, output=str(tmp_path / "out"), dataset=DATASET)
    plan = plan_input(prompts, 4, None)
    left = RunDirectory.open(config, plan, DECIDING_SOURCES)
    with left.held(print):
        left.reopen()
        begin_retry(plan, check_columns(plan.schema, config), left.aligned)
    metrics = run(prompts, tmp_path / "out")
    assert metrics.aligned.num_rows_this_start == 7
    assert read(tmp_path / "out").select(OURS).equals(whole.select(OURS))


def signal_after_first_shard(output, role, number):
    """Send the run's actor of this role a signal, as soon as a shard is committed."""
    while not list(output.glob("_run/shards/shard-*")):
        time.sleep(0.02)
    alive = [a for a in state.actors().values() if a["State"] == "ALIVE" and a["Name"].endswith(f"-{role}0")]
    os.kill(max(alive, key=lambda actor: actor["StartTime"])["Pid"], number)


@pytest.mark.parametrize("role", ["policy", "reward"])
@pytest.mark.parametrize(
    ("number", "words"),
    [(signal.SIGKILL, "died and is restarted"), (signal.SIGSTOP, "gave no answer for 5 s")],
    ids=["killed", "hanging"],
)
def test_a_model_that_dies_or_hangs_costs_time_not_rows(prompts, whole, tmp_path, capsys, role, number, words):
    output = tmp_path / "out"
    slow = {"backend": "fake", "fake_call_ms": 60}
    with ThreadPoolExecutor(1) as pool:
        signalling = pool.submit(signal_after_first_shard, output, role, number)
        patience = {"call_timeout_s": 5.0}
        metrics = run(prompts, output, policy=slow, reward=slow, engine={"slots": 3}, coordinator=patience)
        signalling.result()
    assert metrics.aligned.totals.num_rows == whole.num_rows == 27
    assert read(output).select(OURS).equals(whole.select(OURS))
    line = next(line for line in capsys.readouterr().out.splitlines() if words in line)
    assert line.startswith(f"the {role} model stars-")


def hang_coordinator(output):
    while not list(output.glob("_run/shards/shard-*")):
        time.sleep(0.02)
    actors = state.actors().values()
    pids = [a["Pid"] for a in actors if a["State"] == "ALIVE" and "AlignShards" in a["ActorClassName"]]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    return len(pids)


def test_a_coordinator_that_hangs_is_named_and_replaced(prompts, whole, tmp_path, capsys):
    slow = {"backend": "fake", "fake_call_ms": 60}
    with ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(hang_coordinator, tmp_path / "out")
        patience = {"call_timeout_s": 8.0}
        run(prompts, tmp_path / "out", policy=slow, reward=slow, engine={"slots": 3}, coordinator=patience)
        assert hanging.result() == 1
    assert read(tmp_path / "out").select(OURS).equals(whole.select(OURS))
    words = "gave no sign of life for 8 s (coordinator.call_timeout_s); it is killed and started again"
    line = next(line for line in capsys.readouterr().out.splitlines() if words in line)
    assert line.startswith("the coordinator ")


@pytest.mark.parametrize("num_rows", [0, 1])
def test_no_row_and_one_row(ray_cluster, tmp_path, num_rows):
    pq.write_table(pa.table({"prompt": pa.array(["hi"] * num_rows, pa.string())}), tmp_path / "in.parquet")
    metrics = run(str(tmp_path / "in.parquet"), tmp_path / "out", baseline_rows=num_rows)
    output = read(tmp_path / "out")
    assert output.num_rows == num_rows == metrics.aligned.totals.num_rows
    assert output["id"].to_pylist() == ["in.parquet:0"] * num_rows
    assert output.schema.field("response").type == pa.string()


def test_a_file_that_breaks_while_it_is_read_fails_the_run_by_name(ray_cluster, tmp_path):
    path = tmp_path / "in.parquet"
    table = pa.table({"prompt": [f"text {i}" for i in range(1000)], "id": range(1000)})
    pq.write_table(table, path, compression="none")
    damaged = bytearray(path.read_bytes())
    damaged[4:2000] = bytes(1996)
    path.write_bytes(damaged)
    with pytest.raises(InputError, match=r"in\.parquet.*cannot be read") as caught:
        run(str(path), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "out").rglob("part-*"))


def test_a_silent_model_fails_the_run_in_one_line_and_keeps_no_half_output(ray_cluster, prompts, tmp_path):
    silent = {"backend": "fake", "fake_call_ms": 8000.0}
    with pytest.raises(ModelError, match=r"the policy model stars-\w+-cell0-policy0 gave no answer for 1 s") as caught:
        run(prompts, tmp_path / "out", policy=silent, coordinator={"call_timeout_s": 1.0})
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "out").rglob("part-*"))
    assert (
        RunDirectory.open(
            fake_config(input=prompts, output=str(tmp_path / "out"), dataset=DATASET),
            plan_input(prompts, 4, None),
            DECIDING_SOURCES,
        ).manifest.status
        == "running"
    )
