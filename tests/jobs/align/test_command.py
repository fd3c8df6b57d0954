"""The command line of the main job: mistakes exit 2 with one line and leave no output, before Ray is imported."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.batch.deciding_sources import DECIDING_SOURCES
from jobs.align.__main__ import main
from pipeline.dataset.plan import plan_input
from pipeline.runs.directory import RunDirectory, fresh_output
from tests.configs import fake_config
from tests.jobs.cold_start import cold_start

YAML = """
policy: {backend: fake}
reward: {backend: fake}
strategy: {name: stars, reward_threshold: 0.5}
"""
ON_CPUS = ["cluster.gpus_per_policy=0", "cluster.gpus_per_reward=0"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "job.yaml").write_text(YAML)
    pq.write_table(pa.table({"id": ["a"], "prompt": ["hi"]}), tmp_path / "prompts.parquet")
    pq.write_table(pa.table({"id": ["a"], "question": ["hi"]}), tmp_path / "no_prompt.parquet")
    (tmp_path / "junk.parquet").write_bytes(b"PAR1 not really PAR1")
    (tmp_path / "a_file").write_bytes(b"")
    return tmp_path


def start(*arguments):
    return main(list(map(str, arguments)))


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
def test_a_mistake_exits_2_with_one_line_and_leaves_no_output(folder, capsys, overrides, words):
    inside = [o if "/proc" in o or "put=" not in o else o.replace("put=", f"put={folder}/") for o in overrides]
    assert start("--config", folder / "job.yaml", f"output={folder}/out", *inside) == 2
    said = capsys.readouterr()
    assert words in said.err and said.err.startswith("error: ") and said.err.count("\n") == 1 and not said.out
    assert not (folder / "out").exists()


def test_a_mistake_in_the_output_shows_before_anything_loads(folder):
    ended = cold_start(
        "align", "--config", folder / "job.yaml", f"input={folder}/prompts.parquet", "output=/proc/no/out"
    )
    assert ended.returncode == 2 and "cannot be written" in ended.stderr and "imported: []" in ended.stdout


@pytest.mark.ray
def test_what_cannot_fit_in_memory_exits_2_with_the_sum_before_a_model_is_loaded(ray_cluster, folder, capsys):
    job = ["--config", "jobs/configs/embedded.yaml", f"input={folder}/prompts.parquet", f"output={folder}/out"]
    assert start(*job, "engine.slots=1000000", *ON_CPUS) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: engine.slots = 1000000 × engine.max_model_len = ") and said.err.count("\n") == 1
    assert "cannot fit: policy 0.6 GB process + 0.0 GB weights + 1000000 × " in said.err and "GB free)" in said.err
    assert "loading" not in said.out and not list((folder / "out").glob("part-*"))


def test_an_output_of_another_run_is_refused_by_difference(folder, capsys):
    config = fake_config(input=str(folder / "prompts.parquet"), output=str(folder / "out"))
    run = RunDirectory.open(config, plan_input(config.input, config.dataset.rows_per_shard, None), DECIDING_SOURCES)
    with run.held(print):
        (folder / "out/_run/shards").mkdir()
    (folder / "out/_run/shards/shard-00000000.parquet").write_bytes(b"rows")
    assert start("--config", folder / "job.yaml", f"input={config.input}", f"output={config.output}", "seed=9") == 2
    assert "seed was 0, now 9" in capsys.readouterr().err


def test_changed_code_is_refused_by_file(folder, capsys):
    config = fake_config(input=str(folder / "prompts.parquet"), output=str(folder / "out"))
    run = RunDirectory.open(config, plan_input(config.input, config.dataset.rows_per_shard, None), DECIDING_SOURCES)
    with run.held(print):
        manifest = folder / "out/_run/manifest.json"
    before = run.manifest.fingerprint["code of pipeline/strategies/acceptance.py"]
    manifest.write_text(manifest.read_text().replace(before, "other"))
    (folder / "out/_run/shards").mkdir()
    (folder / "out/_run/shards/shard-00000000.parquet").write_bytes(b"rows")
    assert start("--config", folder / "job.yaml", f"input={config.input}", f"output={config.output}") == 2
    said = capsys.readouterr().err
    assert "code of pipeline/strategies/acceptance.py was 'other', now" in said
    assert "code of actors" not in said and "--fresh" in said


@pytest.mark.ray
def test_fresh_starts_beside_what_is_there(ray_cluster, folder, capsys):
    assert fresh_output(str(folder / "out")) == str(folder / "out")
    (folder / "out").mkdir()
    assert fresh_output(str(folder / "out")) == str(folder / "out"), "an empty folder is nobody's"
    (folder / "out/file").touch()
    (folder / "out-2").touch()
    assert fresh_output(str(folder / "out") + "/") == str(folder / "out-3")
    overrides = [f"input={folder}/prompts.parquet", f"output={folder}/out"]
    assert start("--fresh", "--config", folder / "job.yaml", *overrides) == 0
    assert f"fresh output: {folder}/out-3" in capsys.readouterr().out
    assert (folder / "out-3/part-00000.parquet").exists()
    assert [path.name for path in (folder / "out").iterdir()] == ["file"]
