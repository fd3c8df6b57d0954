"""A later start of a run, with other memory free than the first one had: the same slots and length, or none at all."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import AutoConfig

from actors.batch.deciding_sources import DECIDING_SOURCES
from actors.batch.run import run_align
from actors.rewards.interface import ModelNeeds
from actors.rewards.model_checks import CLASSIFIER
from actors.startup import memory_pools
from actors.startup.engine_shape import USABLE_FRACTION, MemoryPool
from actors.startup.model_limits import POLICY_NEEDS
from actors.startup.model_sizes import model_memory
from jobs.chaos.error_rows import inject_error_rows
from pipeline.dataset.columns import check_columns
from pipeline.dataset.plan import plan_input
from pipeline.errors import ConfigError
from pipeline.runs.directory import RunDirectory
from tests.configs import fake_config

ASSETS = Path(__file__).parents[3] / "pipeline/embedded/assets"
MODELS = {role: {"model": str(ASSETS / role), "dtype": "float32"} for role in ("policy", "reward")}
SLOTS, LENGTH = 16, 128
OURS = ["id", "response", "reward", "segments", "error_type"]


def enough_for(config, slots, max_model_len):
    """Free bytes that just hold this shape."""
    memories = {
        role: model_memory(role, getattr(config, role), AutoConfig.from_pretrained(ASSETS / role), "cpu", needs)
        for role, needs in (("policy", POLICY_NEEDS), ("reward", ModelNeeds(CLASSIFIER)))
    }
    return int(MemoryPool(memories, 0).total_bytes(slots, max_model_len) / USABLE_FRACTION) + 1


@pytest.mark.ray
def test_slots_and_length_stay_those_of_the_first_start(ray_cluster, tmp_path, monkeypatch, capsys):
    prompts = ["Tell me a story.", "Name a colour.", "Say it again and again: " + "more " * 150]
    pq.write_table(pa.table({"id": ["a", "b", "long"], "prompt": prompts}), tmp_path / "in.parquet")
    config = fake_config(
        input=str(tmp_path / "in.parquet"),
        output=str(tmp_path / "out"),
        generation={"max_new_tokens": 16},
        cluster={"gpus_per_policy": 0, "gpus_per_reward": 0},
        **MODELS,
    )
    plan, free_bytes = plan_input(config.input, None, None), enough_for(config, SLOTS, LENGTH)
    columns = check_columns(plan.schema, config)

    def start(free_bytes, retries_errors=True):
        monkeypatch.setattr(memory_pools, "free_host_memory", lambda reservation: free_bytes)
        run_align(config, plan, columns, RunDirectory.open(config, plan, DECIDING_SOURCES), retries_errors)
        return pq.read_table(tmp_path / "out/part-00000.parquet", columns=OURS).to_pylist()

    before = start(free_bytes, retries_errors=False)
    assert [row["error_type"] for row in before] == [None, None, "prompt_too_long"]
    manifest = json.loads((tmp_path / "out/_run/manifest.json").read_text())
    assert manifest["engine"] == {"slots": SLOTS, "max_model_len": LENGTH} and manifest["commits"] == {}
    inject_error_rows(tmp_path / "out", {"a"})
    assert start(16 * free_bytes) == before, "the long prompt would fit now, but no longer means what it meant"
    assert f"going on as begun, with {SLOTS} slots of {LENGTH} tokens" in capsys.readouterr().out
    sums = rf"engine\.slots = {SLOTS} × engine\.max_model_len = {LENGTH} cannot fit: policy .* of .* usable"
    with pytest.raises(ConfigError, match=sums):
        start(free_bytes - (8 << 20))
