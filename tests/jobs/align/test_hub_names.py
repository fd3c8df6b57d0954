"""A run whose models have Hub names goes on with the commits it began with, wherever their branches are by then."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from jobs.chaos.error_rows import inject_error_rows
from jobs.started_job import StartedJob
from tests.actors.startup.hub_cache import commit_model
from tests.ray_head import ROOT

ASSETS = ROOT / "pipeline/embedded/assets"
OURS = ["id", "response", "reward", "segments", "error_type"]
OLD, NEW, REWARD = "1" * 40, "2" * 40, "3" * 40


def align(folder, *arguments):
    job = [*("--config", "jobs/configs/embedded.yaml", "policy.model=org/policy", "reward.model=org/reward"),
           *(f"input={folder}/in.parquet", f"output={folder}/out", "baseline_rows=0"),
           *("generation.max_new_tokens=16", "engine.slots=4", "engine.max_model_len=128")]  # fmt: skip
    environment = {"HF_HUB_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    with StartedJob([*job, *arguments], folder / "job.log", environment=environment) as started:
        started.finish()
    return pq.read_table(folder / "out/part-00000.parquet", columns=OURS).to_pylist()


@pytest.mark.ray
def test_a_run_keeps_the_commits_it_began_with(tmp_path):
    prompts = {"id": ["a", "b"], "prompt": ["Tell me a story.", "Name a colour."]}
    pq.write_table(pa.table(prompts), tmp_path / "in.parquet")
    commit_model(tmp_path / "cache", "org/policy", ASSETS / "policy", OLD)
    commit_model(tmp_path / "cache", "org/reward", ASSETS / "reward", REWARD)
    before = align(tmp_path)
    manifest = json.loads((tmp_path / "out/_run/manifest.json").read_text())
    assert manifest["commits"] == {"org/policy": OLD, "org/reward": REWARD}

    weights = commit_model(tmp_path / "cache", "org/policy", ASSETS / "policy", NEW) / "model.safetensors"
    zeros = {name: torch.zeros_like(tensor) for name, tensor in load_file(weights).items()}
    save_file(zeros, weights, {"format": "pt"})  # a policy that draws its words by chance
    inject_error_rows(tmp_path / "out", {"b"})
    assert align(tmp_path, "--retry-errors") == before
