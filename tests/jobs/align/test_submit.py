"""`ray job submit` against a head node started by hand: stopped and submitted again no row is lost, and the exit status
tells how a job ended. Also what travels there."""

import re
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from ray._private.ray_constants import get_runtime_env_default_excludes
from ray._private.runtime_env.packaging import create_package

from pipeline.config.align import AlignConfig
from pipeline.records import PromptRow
from tests.actors.coordination.test_coordinator import align_all
from tests.ray_head import ROOT, ray_head

NUM_ROWS = 96
PATIENCE_S = 300.0
YAML = """
policy: {backend: fake, fake_call_ms: 20}
reward: {backend: fake, fake_call_ms: 20}
strategy: {name: stars, reward_threshold: 0.5, segment_size: 8}
generation: {max_new_tokens: 64}
dataset: {rows_per_shard: 4}
"""
PROMPTS = [f"Tell me about {i}" for i in range(NUM_ROWS - 1)] + [None]
BATCHED, ONE_BY_ONE = "engine.slots=64", "engine.slots=4"  # slots change no response, only how long it takes
DIES = ("policy.fake_call_ms=5000", "coordinator.call_timeout_s=0.5", "max_rows=2")


@pytest.fixture(scope="module")
def head():
    with ray_head() as started:
        yield started


@pytest.fixture
def job(tmp_path):
    """The arguments of a job over `NUM_ROWS` rows, the last of which is an error row."""
    pq.write_table(pa.table({"id": range(NUM_ROWS), "prompt": PROMPTS}), tmp_path / "prompts.parquet")
    (tmp_path / "job.yaml").write_text(YAML)
    return ["jobs.align", "--config", f"{tmp_path}/job.yaml", f"input={tmp_path}/prompts.parquet"]


def await_shards(output):
    deadline_s = time.monotonic() + PATIENCE_S
    while len(list(output.glob("_run/shards/shard-*"))) < 2:
        assert time.monotonic() < deadline_s, "no shard was committed"
        time.sleep(0.1)


def undisturbed():
    """The rows of the same coordinator on models in threads."""
    tree = yaml.safe_load(YAML) | {"engine": {"slots": 64, "max_model_len": 128}}
    rows = [PromptRow(i, i, prompt=prompt) for i, prompt in enumerate(PROMPTS[:-1])]
    return align_all(AlignConfig.model_validate(tree | {"input": "-", "output": "-"}), rows)[0]


@pytest.mark.ray
def test_a_job_that_is_stopped_goes_on_when_it_is_submitted_again(head, job, tmp_path):
    output = tmp_path / "out"
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(head.submit, "first", *job, f"output={output}", ONE_BY_ONE)
        await_shards(output)
        assert head.stop("first").returncode == 0 and head.details("first")["status"] == "STOPPED"
        first.result()
    assert len(list(output.glob("_run/shards/shard-*"))) >= 2 and not list(output.glob("part-*"))
    assert re.search(rf"aligned: \d+/{NUM_ROWS} prompts · .* left · ", head.logs("first")), "progress lines"

    again = head.submit("second", *job, f"output={output}", BATCHED)
    assert again.returncode == 0 and head.details("second")["status"] == "SUCCEEDED"
    assert f"aligned: {NUM_ROWS}/{NUM_ROWS} prompts" in head.logs("second")
    *rows, error_row = pa.concat_tables(pq.read_table(path) for path in sorted(output.glob("part-*"))).to_pylist()
    assert error_row["id"] == NUM_ROWS - 1 and error_row["error_type"] == "null_prompt"
    assert [(row["id"], row["response"], row["reward"], row["segments"]) for row in rows] == [
        (i, row.response, row.reward, [asdict(segment) for segment in row.segments])
        for i, row in enumerate(undisturbed())
    ]

    third = head.submit("third", *job, f"output={output}", BATCHED, "max_error_rows=0")
    details = head.details("third")
    assert (third.returncode, details["status"], details["driver_exit_code"]) == (1, "FAILED", 3)
    assert "nothing to do" in head.logs("third") and "more than max_error_rows = 0" in head.logs("third")


@pytest.mark.ray
def test_the_exit_status_tells_how_a_job_failed(head, job, tmp_path):
    jobs = {
        "failed": ([*job, f"output={tmp_path}/1", *DIES], 1, "gave no answer for 0.5 s"),
        "wrong-config": ([*job, f"output={tmp_path}/2", "strategy.betta=1"], 2, "did you mean 'strategy.beta'?"),
    }
    for name, (arguments, exit_code, words) in jobs.items():
        assert head.submit(name, *arguments).returncode == 1, "of the command itself"
        details = head.details(name)
        assert (details["status"], details["driver_exit_code"]) == ("FAILED", exit_code), head.logs(name)
        assert words in head.logs(name)


def package(folder, target):
    """The files that Ray sends for `--working-dir folder`, and the bytes they take on the way."""
    create_package(str(folder), target, include_gitignore=True, excludes=get_runtime_env_default_excludes())
    with zipfile.ZipFile(target) as archive:
        return set(archive.namelist()), target.stat().st_size


def test_what_travels_is_small_and_holds_what_the_embedded_job_needs(tmp_path):
    names, num_bytes = package(ROOT, tmp_path / "repository.zip")
    assert {
        "jobs/align/__main__.py",
        "jobs/configs/embedded.yaml",
        "pipeline/embedded/assets/policy/model.safetensors",
    } <= names
    assert num_bytes < 12e6


def test_outputs_environments_and_history_do_not_travel(tmp_path):
    tree = tmp_path / "tree"
    left_behind = [".git/HEAD", ".venv/bin/python", "outputs/a/part-00000.parquet", "tests/test_a.py", "docs/a.md"]
    for name in [*left_behind, "jobs/align/__main__.py", "pipeline/records.py"]:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("x")
    for name in (".gitignore", ".rayignore"):
        (tree / name).write_text((ROOT / name).read_text())
    names, _ = package(tree, tmp_path / "tree.zip")
    files = {name for name in names if not name.endswith("/")}
    assert files == {"jobs/align/__main__.py", "pipeline/records.py", ".gitignore", ".rayignore"}
