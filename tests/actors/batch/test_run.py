"""The whole job on fake models: rows in, rows out, the same whatever carries them, and never done twice."""

import os
import shutil
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from ray._private import state
from rich.console import Console

from actors.batch.deciding_sources import DECIDING_SOURCES
from actors.batch.run import run_align
from jobs.align.summary import show_summary
from jobs.chaos.error_rows import inject_error_rows
from pipeline.dataset.columns import check_columns
from pipeline.dataset.plan import plan_input
from pipeline.dataset.shards import write_shard
from pipeline.errors import InputError, ModelError
from pipeline.records import PromptRow
from pipeline.runs.directory import RunDirectory
from pipeline.runs.metrics import RunMetrics
from pipeline.runs.retry import begin_retry
from pipeline.storage import locate
from tests.actors.coordination.test_coordinator import align_all
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


def start_of(prompts, output, **sections):
    """The config, the run directory and the plan of a start, as the command line makes them."""
    config = fake_config(input=prompts, output=str(output), **({"dataset": DATASET} | sections))
    plan = plan_input(config.input, config.dataset.rows_per_shard, config.max_rows)
    return config, RunDirectory.open(config, plan, DECIDING_SOURCES), plan


def run(prompts, output, retry_errors=False, **sections):
    config, directory, plan = start_of(prompts, output, **sections)
    return run_align(config, plan, check_columns(plan.schema, config), directory, retry_errors)


def read(output):
    files = sorted(output.glob("part-*.parquet"))
    return pa.concat_tables(pq.read_table(file) for file in files)


@dataclass(frozen=True)
class Done:
    """A run that nothing disturbs: its output, its rows, its metrics and what was printed."""

    output: Path
    rows: pa.Table
    metrics: RunMetrics
    printed: str


@pytest.fixture(scope="module")
def done(ray_cluster, prompts, tmp_path_factory):
    output = tmp_path_factory.mktemp("whole") / "out"
    with redirect_stdout(StringIO()) as printed:
        metrics = run(prompts, output, baseline_rows=10, judge="embedded")
        config, directory, _ = start_of(prompts, output, baseline_rows=10, judge="embedded")
        show_summary(Console(), config, directory, metrics)
    return Done(output, read(output), metrics, printed.getvalue())


@pytest.fixture(scope="module")
def whole(done):
    return done.rows


def test_every_row_leaves_once_in_order_with_its_response_or_its_error(prompts, done):
    output, given, metrics = done.rows, pq.read_table(prompts), done.metrics
    assert output.select(given.schema.names).equals(given.cast(output.select(given.schema.names).schema))
    faults = {3: "null_prompt", 9: "empty_prompt", 14: "prompt_too_long", 20: "duplicate_id", 25: "null_id"}
    assert output["error_type"].to_pylist() == [faults.get(i) for i in range(27)]
    assert output["response"].is_null().to_pylist() == [i in faults for i in range(27)]
    assert [pq.read_metadata(f).num_rows for f in sorted(done.output.glob("*.parquet"))] == [15, 12]
    assert len(pd.read_parquet(done.output)) == 27
    assert not (done.output / "_run/shards").exists()
    assert metrics.aligned.totals.num_error_rows == 5 and metrics.aligned.totals.num_rows == 27
    assert metrics.aligned.totals.num_attempts <= pc.sum(output["num_policy_calls"]).as_py()
    assert metrics.aligned.policy.num_rows == pc.sum(output["num_policy_calls"]).as_py()
    assert metrics.aligned.policy.num_tokens == metrics.aligned.totals.num_policy_tokens
    assert metrics.baseline is not None and metrics.baseline.totals.num_rows == 10
    assert metrics.comparison is not None and metrics.comparison.num_prompts == 8
    for words in ("aligned: 27/27 prompts", "by vanilla, on the same 8 prompts", "5 error rows", "read_parquet"):
        assert words in done.printed
    assert max(len(line) for line in done.printed.splitlines() if "│" in line or "┃" in line) <= 80


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
    _, left, plan = start_of(prompts, tmp_path / "out")
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
    assert again == metrics == RunMetrics.load(start_of(prompts, tmp_path / "out")[1].metrics_file)
    assert "nothing to do" in capsys.readouterr().out


def test_error_rows_are_redone_and_no_other(prompts, done, tmp_path, capsys):
    shutil.copytree(done.output, tmp_path / "out")
    inject_error_rows(tmp_path / "out", {"r0", "r17"})
    inject_error_rows(tmp_path / "out/_run/baseline", {"r2"})
    same = {"baseline_rows": 10, "judge": "embedded"}
    assert "nothing to do" in (run(prompts, tmp_path / "out", **same), capsys.readouterr().out)[1]
    metrics = run(prompts, tmp_path / "out", retry_errors=True, **same)
    assert metrics.aligned.num_rows_this_start == 2 + 5, "two that had passed, five that never can"
    assert metrics.baseline.num_rows_this_start == 1 + 2
    assert read(tmp_path / "out").select(OURS).equals(done.rows.select(OURS))
    assert not (tmp_path / "out/_run/retry").exists()
    assert RunMetrics.load(locate(str(tmp_path / "out/_run/metrics.json"))) == metrics


def test_a_killed_retry_is_finished_by_a_plain_start(prompts, done, tmp_path):
    shutil.copytree(done.output, tmp_path / "out")
    inject_error_rows(tmp_path / "out", {"r0", "r17"})
    same = {"baseline_rows": 10, "judge": "embedded"}
    config, left, plan = start_of(prompts, tmp_path / "out", **same)
    with left.held(print):
        left.reopen()
        begin_retry(plan, check_columns(plan.schema, config), left.aligned, left.output(left.aligned))
    metrics = run(prompts, tmp_path / "out", **same)
    assert metrics.aligned.num_rows_this_start == 7
    assert read(tmp_path / "out").select(OURS).equals(done.rows.select(OURS))


class Striker:
    """Sends the actors of a run signals, one after another, each once another shard has been committed.

    `stop` ends it: a run that failed has no more shards to wait for.
    """

    def __init__(self, output, strikes):
        self.output, self.strikes, self.struck = output, strikes, []
        self.is_over = threading.Event()

    def strike(self):
        for class_name, number in self.strikes:
            committed = self.num_committed()
            self.wait_until(lambda committed=committed: self.num_committed() > committed)
            self.wait_until(lambda name=class_name: self.pids(name))
            (pid,) = self.pids(class_name)
            os.kill(pid, number)
            self.struck.append((class_name, number))
            self.wait_until(lambda name=class_name, pid=pid: self.pids(name) and pid not in self.pids(name))

    def wait_until(self, condition):
        while not condition() and not self.is_over.wait(0.02):
            pass

    def num_committed(self):
        return len(list(self.output.glob("_run/shards/shard-*")))

    def pids(self, class_name):
        alive = [actor for actor in state.actors().values() if actor["State"] == "ALIVE"]
        return [actor["Pid"] for actor in alive if class_name in actor["ActorClassName"]]


def test_models_and_a_coordinator_that_die_or_hang_cost_time_not_rows(ray_cluster, tmp_path, capsys):
    """Five faults in one run; the rows are those of a coordinator on models in threads, which nothing disturbs."""
    texts = [f"Tell me about {i}" for i in range(100)]
    pq.write_table(pa.table({"id": texts, "prompt": texts}), tmp_path / "in.parquet")
    slow = {"backend": "fake", "fake_call_ms": 60}
    sections = {"policy": slow, "reward": slow, "engine": {"slots": 8}, "coordinator": {"call_timeout_s": 5.0}}
    killed, hangs = signal.SIGKILL, signal.SIGSTOP
    strikes = [("PolicyActor", killed), ("RewardActor", killed), ("PolicyActor", hangs), ("RewardActor", hangs)]
    striker = Striker(tmp_path / "out", [*strikes, ("AlignShards", hangs)])
    with ThreadPoolExecutor(1) as pool:
        striking = pool.submit(striker.strike)
        try:
            metrics = run(str(tmp_path / "in.parquet"), tmp_path / "out", **sections)
        finally:
            striker.is_over.set()
        striking.result()
    assert striker.struck == striker.strikes, "the run was over too soon"
    undisturbed, _ = align_all(
        fake_config(engine={"slots": 64, "max_model_len": 64}),
        [PromptRow(i, text, prompt=text) for i, text in enumerate(texts)],
    )
    output = read(tmp_path / "out")
    assert output["id"].to_pylist() == texts and metrics.aligned.totals.num_rows == 100
    assert output["response"].to_pylist() == [row.response for row in undisturbed]
    assert output["reward"].to_pylist() == [row.reward for row in undisturbed]
    assert output["segments"].to_pylist() == [[asdict(s) for s in row.segments] for row in undisturbed]
    lines = capsys.readouterr().out.splitlines()
    for role in ("policy", "reward"):
        of_role = [line for line in lines if line.startswith(f"the {role} model stars-")]
        assert any("gave no answer for 5 s" in line for line in of_role), lines
        assert sum("died and is restarted" in line for line in of_role) >= 2, lines
    words = "gave no sign of life for 5 s (coordinator.call_timeout_s); it is killed and started again"
    assert any(line.startswith("the coordinator ") and words in line for line in lines), lines


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
    assert start_of(prompts, tmp_path / "out")[1].manifest.status == "running"
