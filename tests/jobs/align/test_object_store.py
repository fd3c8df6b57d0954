"""The whole job with input, output and checkpoints on an S3-compatible server: killed, started again, the same rows."""

import json
import time
from dataclasses import asdict

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pyarrow import fs

from jobs.started_job import StartedJob
from pipeline.config.align import AlignConfig
from pipeline.records import PromptRow
from tests.actors.coordination.test_coordinator import align_all
from tests.s3_server import BUCKET, s3_server

PROMPTS = [f"Tell me about {i}" for i in range(96)]
PATIENCE_S = 300.0
JOB = """
policy: {backend: fake, fake_call_ms: 20}
reward: {backend: fake, fake_call_ms: 20}
strategy: {name: stars, reward_threshold: 0.5, segment_size: 8}
generation: {max_new_tokens: 64}
dataset: {rows_per_shard: 4, rows_per_file: 50}
"""


@pytest.fixture
def store(tmp_path):
    """The server's environment, and a filesystem of our own on it."""
    with s3_server(tmp_path) as environment:
        yield (
            environment,
            fs.S3FileSystem(
                access_key=environment["AWS_ACCESS_KEY_ID"],
                secret_key=environment["AWS_SECRET_ACCESS_KEY"],
                endpoint_override=environment["AWS_ENDPOINT_URL"],
                region=environment["AWS_REGION"],
            ),
        )


def names(filesystem, folder):
    infos = filesystem.get_file_info(fs.FileSelector(folder, recursive=True, allow_not_found=True))
    return sorted(info.path.removeprefix(f"{folder}/") for info in infos if info.type == fs.FileType.File)


def undisturbed():
    """The rows of the same coordinator on models in threads."""
    tree = yaml.safe_load(JOB) | {"engine": {"slots": 64, "max_model_len": 128}}
    rows = [PromptRow(i, i, prompt=prompt) for i, prompt in enumerate(PROMPTS)]
    return align_all(AlignConfig.model_validate(tree | {"input": "-", "output": "-"}), rows)[0]


@pytest.mark.ray
def test_a_killed_job_on_an_object_store_goes_on_there(ray_cluster, store, tmp_path):
    environment, filesystem = store
    table = pa.table({"id": range(len(PROMPTS)), "prompt": PROMPTS})
    pq.write_table(table, f"{BUCKET}/in.parquet", filesystem=filesystem)
    (tmp_path / "job.yaml").write_text(JOB)
    job = ["--config", f"{tmp_path}/job.yaml", f"input=s3://{BUCKET}/in.parquet", f"output=s3://{BUCKET}/out"]
    of_workers = {"runtime_env": {"env_vars": environment}}  # as `ray job submit --runtime-env-json` hands it over
    environment |= {"RAY_ADDRESS": ray_cluster.address, "RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps(of_workers)}

    with StartedJob([*job, "engine.slots=4"], tmp_path / "killed.log", environment=environment) as killed:
        deadline_s = time.monotonic() + PATIENCE_S
        while sum("shards/shard-" in name for name in names(filesystem, f"{BUCKET}/out")) < 2:
            assert killed.exit_code is None and time.monotonic() < deadline_s, (tmp_path / "killed.log").read_text()
            time.sleep(0.1)
    assert not any(name.startswith("part-") for name in names(filesystem, f"{BUCKET}/out"))

    with StartedJob(job, tmp_path / "again.log", environment=environment) as again:
        again.finish()
    assert f"s3://{BUCKET}/out" in (tmp_path / "again.log").read_text()
    ours = ["_run/config.yaml", "_run/manifest.json", "_run/metrics.json", "part-00000.parquet", "part-00001.parquet"]
    assert names(filesystem, f"{BUCKET}/out") == ours
    parts = [pq.read_table(f"{BUCKET}/out/{name}", filesystem=filesystem) for name in ours[3:]]
    rows = pa.concat_tables(parts).to_pylist()
    assert [(row["id"], row["response"], row["reward"], row["segments"], row["error_type"]) for row in rows] == [
        (i, row.response, row.reward, [asdict(segment) for segment in row.segments], None)
        for i, row in enumerate(undisturbed())
    ]
