"""The command line without a cluster: mistakes exit 2 with one line, before Ray or torch is imported."""

import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.dataset.plan import plan_input
from pipeline.runs.directory import RunDirectory, fresh_output
from tests.configs import fake_config

YAML = """
policy: {backend: fake}
reward: {backend: fake}
strategy: {name: stars, reward_threshold: 0.5}
"""
GUARD = """
import runpy, sys
sys.argv = ["jobs.align", *sys.argv[1:]]
try:
    runpy.run_module("jobs.align", run_name="__main__")
finally:
    heavy = {"ray", "torch", "transformers"} & set(sys.modules)
    print(f"imported: {sorted(heavy)}")
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "job.yaml").write_text(YAML)
    pq.write_table(pa.table({"id": ["a"], "prompt": ["hi"]}), tmp_path / "prompts.parquet")
    pq.write_table(pa.table({"id": ["a"], "question": ["hi"]}), tmp_path / "no_prompt.parquet")
    (tmp_path / "junk.parquet").write_bytes(b"PAR1 not really PAR1")
    (tmp_path / "a_file").write_bytes(b"")
    return tmp_path


def start(*arguments):
    command = [sys.executable, "-c", GUARD, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["input=prompts.parquet", "strategy.betta=1"], "strategy.betta: unknown key; did you mean 'strategy.beta'?"),
        (["input=prompts.parquet", "strategy.alpha=2"], "strategy.alpha"),
        (["input=no_prompt.parquet"], "neither a column 'prompt' nor 'messages'"),
        (["input=junk.parquet"], "not a readable Parquet file"),
        (["input=promts.parquet"], "prompts.parquet'?"),
        (["input=prompts.parquet", "output=a_file"], "a_file' is a file"),
        (["input=prompts.parquet", "id_column=ids"], "id_column: the input has no column 'ids'; did you mean 'id'?"),
        (["input=prompts.parquet", "output=/proc/none/out"], "cannot be written"),
    ],
)
def test_a_mistake_exits_2_with_one_line_before_anything_loads(folder, overrides, words):
    inside = [o if "/proc" in o or "put=" not in o else o.replace("put=", f"put={folder}/") for o in overrides]
    ended = start("--config", folder / "job.yaml", f"output={folder}/out", *inside)
    assert ended.returncode == 2
    assert words in ended.stderr and ended.stderr.startswith("error: ") and ended.stderr.count("\n") == 1
    assert "imported: []" in ended.stdout
    assert not (folder / "out").exists()


def test_what_cannot_fit_in_memory_exits_2_with_the_sum_before_a_model_is_loaded(folder):
    job = ["--config", "jobs/configs/embedded.yaml", f"input={folder}/prompts.parquet", f"output={folder}/out"]
    ended = start(*job, "engine.slots=1000000")
    line = ended.stderr.splitlines()[-1]
    assert ended.returncode == 2 and line.startswith("error: engine.slots = 1000000 × engine.max_model_len = ")
    assert "cannot fit: policy 0.6 GB process + 0.0 GB weights + 1000000 × " in line and "GB free)" in line
    assert "loading" not in ended.stdout and not list((folder / "out").glob("part-*"))


def test_help_shows_every_key_and_imports_nothing_heavy():
    ended = start("--help")
    assert ended.returncode == 0 and "imported: []" in ended.stdout
    for words in (
        "strategy.reward_threshold",
        "engine.slots",
        "[default 16]",
        "[required]",
        "max_error_rows",
        "--fresh",
        "--retry-errors",
    ):
        assert words in ended.stdout


def test_an_output_of_another_run_is_refused_by_difference(folder):
    config = fake_config(input=str(folder / "prompts.parquet"), output=str(folder / "out"))
    RunDirectory.open(config, plan_input(config.input, config.dataset.rows_per_shard, None))
    (folder / "out/_run/shards").mkdir()
    (folder / "out/_run/shards/shard-00000000.parquet").write_bytes(b"rows")
    ended = start("--config", folder / "job.yaml", f"input={config.input}", f"output={config.output}", "seed=9")
    assert ended.returncode == 2 and "seed was 0, now 9" in ended.stderr and "imported: []" in ended.stdout


def test_changed_code_is_refused_by_file(folder):
    config = fake_config(input=str(folder / "prompts.parquet"), output=str(folder / "out"))
    run = RunDirectory.open(config, plan_input(config.input, config.dataset.rows_per_shard, None))
    manifest = folder / "out/_run/manifest.json"
    before = run.manifest.fingerprint["code of pipeline/strategies/acceptance.py"]
    manifest.write_text(manifest.read_text().replace(before, "other"))
    (folder / "out/_run/shards").mkdir()
    (folder / "out/_run/shards/shard-00000000.parquet").write_bytes(b"rows")
    ended = start("--config", folder / "job.yaml", f"input={config.input}", f"output={config.output}")
    assert ended.returncode == 2 and "code of pipeline/strategies/acceptance.py was 'other', now" in ended.stderr
    assert "code of actors" not in ended.stderr and "--fresh" in ended.stderr


def test_fresh_starts_beside_what_is_there(folder):
    assert fresh_output(str(folder / "out")) == str(folder / "out")
    (folder / "out").mkdir()
    assert fresh_output(str(folder / "out")) == str(folder / "out"), "an empty folder is nobody's"
    (folder / "out/file").touch()
    (folder / "out-2").touch()
    assert fresh_output(str(folder / "out") + "/") == str(folder / "out-3")
    overrides = [f"input={folder}/prompts.parquet", f"output={folder}/out"]
    ended = start("--fresh", "--config", folder / "job.yaml", *overrides)
    assert ended.returncode == 0, ended.stderr
    assert f"fresh output: {folder}/out-3" in ended.stdout and (folder / "out-3/part-00000.parquet").exists()
    assert [path.name for path in (folder / "out").iterdir()] == ["file"]
