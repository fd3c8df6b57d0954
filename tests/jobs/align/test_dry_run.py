"""`--dry-run`: what a run would do is shown, its models asked for a probe, and nothing is left behind."""

import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.align.__main__ import main

pytestmark = pytest.mark.ray
ON_CPUS = ["cluster.gpus_per_policy=0", "cluster.gpus_per_reward=0"]
FAKE = """
policy: {backend: fake}
reward: {backend: fake}
strategy: {name: stars, reward_threshold: 0.5, segment_size: 8}
generation: {max_new_tokens: 24}
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "job.yaml").write_text(FAKE)
    prompts = [None, *(f"Tell me about {i}" for i in range(99))]
    table = pa.table({"prompt": prompts, "kind": ["a"] * 100})
    pq.write_table(table, tmp_path / "prompts.parquet")
    return tmp_path


@pytest.fixture
def dry_run(ray_cluster, capsys):
    """Runs the job with --dry-run and more arguments; returns its exit code and what it printed."""

    def run(*arguments):
        return main(["--dry-run", *map(str, arguments)]), capsys.readouterr()

    return run


def test_the_embedded_job_is_shown_and_probed(folder, dry_run):
    code, said = dry_run("--config", "jobs/configs/embedded.yaml", f"output={folder}/out", *ON_CPUS)
    assert code == 0, said.err
    for words in (
        "columns found: prompt = prompt, messages = messages, id = id",
        "<|end|><|assistant|>⟨response⟩<|end|>",
        "⟨response⟩",
        "no GPUs: models on CPUs",
        "64 slots of",
        "policy 0.6 GB process + ",
        "by the first 32 rows, for all 400 of stars: ",
        "GPU hours",
        "the plain responses of 400 rows come on top",
    ):
        assert words in said.out, said.out
    assert not (folder / "out").exists()


def test_a_probe_counts_error_rows_and_expects_what_the_run_then_takes(folder, dry_run):
    job = ["--config", f"{folder}/job.yaml", f"input={folder}/prompts.parquet", f"output={folder}/out", "max_rows=32"]
    _, said = dry_run(*job)
    assert "columns that pass through: kind" in said.out and "id = none, so file and row position" in said.out
    assert "of row prompts.parquet:1, to the policy" in said.out and "0 of 2 shards are committed" in said.out
    assert "error rows among them: 1 null_prompt" in said.out
    assert not (folder / "out").exists()
    assert main(job) == 0
    output = pq.read_table(folder / "out/part-00000.parquet")
    figures = re.search(r"stars: ([\d,]+) .*?, ([\d,]+) .*?, ([\d,]+)", said.out).groups()
    expected = [int(figure.replace(",", "")) for figure in figures]
    taken = [sum(output[f"num_{name}_tokens"].to_pylist()) for name in ("response", "policy", "reward")]
    assert expected[0] == taken[0] and expected == pytest.approx(taken, rel=0.25)
    before = sorted(folder.rglob("*"))
    assert "finished, nothing to do" in dry_run(*job)[1].out and sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["strategy.betta=1"], "did you mean 'strategy.beta'?"),
        (["cluster.gpus_per_policy=1", "cluster.cells=9"], "cannot be placed: the cluster has 2"),
    ],
)
def test_what_would_stop_the_run_stops_the_dry_run(folder, dry_run, overrides, words):
    job = ["--config", f"{folder}/job.yaml", f"input={folder}/prompts.parquet", f"output={folder}/out"]
    code, said = dry_run(*job, *overrides)
    assert code == 2 and words in said.err and not (folder / "out").exists()
