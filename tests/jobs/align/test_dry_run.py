"""`--dry-run`: what a run would do is shown, its models asked for a probe, and nothing is left behind."""

import re
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.ray_head import ROOT

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


def dry_run(*arguments):
    command = [sys.executable, "-m", "jobs.align", "--dry-run", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.ray
def test_the_embedded_job_is_shown_and_probed(folder):
    ended = dry_run("--config", "jobs/configs/embedded.yaml", f"output={folder}/out")
    assert ended.returncode == 0, ended.stderr
    shown = ended.stdout
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
        assert words in shown, shown
    assert not (folder / "out").exists()


@pytest.mark.ray
def test_a_probe_counts_error_rows_and_expects_what_the_run_then_takes(folder):
    job = ["--config", folder / "job.yaml", f"input={folder}/prompts.parquet", f"output={folder}/out", "max_rows=32"]
    shown = dry_run(*job).stdout
    assert "columns that pass through: kind" in shown and "id = none, so file and row position" in shown
    assert "of row prompts.parquet:1, to the policy" in shown and "0 of 2 shards are done" in shown
    assert "error rows among them: 1 null_prompt" in shown
    assert not (folder / "out").exists()
    run = subprocess.run([sys.executable, "-m", "jobs.align", *map(str, job)], cwd=ROOT, check=False)
    assert run.returncode == 0
    output = pq.read_table(folder / "out/part-00000.parquet")
    expected = [
        int(n.replace(",", "")) for n in re.search(r"stars: ([\d,]+) .*?, ([\d,]+) .*?, ([\d,]+)", shown).groups()
    ]
    taken = [sum(output[f"num_{name}_tokens"].to_pylist()) for name in ("response", "policy", "reward")]
    assert expected[0] == taken[0] and expected == pytest.approx(taken, rel=0.25)
    before = sorted(folder.rglob("*"))
    assert "finished, nothing to do" in dry_run(*job).stdout and sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["strategy.betta=1"], "did you mean 'strategy.beta'?"),
        (["cluster.gpus_per_policy=1"], "cannot be placed: the cluster has 0"),
    ],
)
def test_what_would_stop_the_run_stops_the_dry_run(folder, overrides, words):
    ended = dry_run(
        "--config", folder / "job.yaml", f"input={folder}/prompts.parquet", f"output={folder}/out", *overrides
    )
    assert ended.returncode == 2 and words in ended.stderr and not (folder / "out").exists()
