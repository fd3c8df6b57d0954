"""The whole job with input, output and checkpoints on an S3-compatible server: killed, started again, the same rows."""

import os
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from tests.ray_head import ROOT
from tests.s3_server import BUCKET, s3_server

NUM_ROWS = 96
PATIENCE_S = 300.0
OURS = ["id", "response", "reward", "segments", "error_type"]
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


def start(arguments, environment):
    command = [sys.executable, "-m", "jobs.align", *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, stdout=-1, stderr=-2, text=True)


def names(filesystem, folder):
    infos = filesystem.get_file_info(fs.FileSelector(folder, recursive=True, allow_not_found=True))
    return sorted(info.path.removeprefix(f"{folder}/") for info in infos if info.type == fs.FileType.File)


@pytest.mark.ray
def test_a_killed_job_on_an_object_store_goes_on_there(store, tmp_path):
    environment, filesystem = store
    table = pa.table({"id": range(NUM_ROWS), "prompt": [f"Tell me about {i}" for i in range(NUM_ROWS)]})
    pq.write_table(table, f"{BUCKET}/in.parquet", filesystem=filesystem)
    pq.write_table(table, tmp_path / "in.parquet")
    (tmp_path / "job.yaml").write_text(JOB)
    here = ["--config", f"{tmp_path}/job.yaml", f"input={tmp_path}/in.parquet", f"output={tmp_path}/out"]
    there = [*here[:2], f"input=s3://{BUCKET}/in.parquet", f"output=s3://{BUCKET}/out"]

    killed = start([*there, "engine.slots=4"], environment)
    deadline_s = time.monotonic() + PATIENCE_S
    while sum("shards/shard-" in name for name in names(filesystem, f"{BUCKET}/out")) < 2:
        assert killed.poll() is None and time.monotonic() < deadline_s
        time.sleep(0.1)
    killed.kill()
    killed.communicate()
    assert not any(name.startswith("part-") for name in names(filesystem, f"{BUCKET}/out"))

    again = start(there, environment)
    shown, _ = again.communicate(timeout=PATIENCE_S)
    assert again.returncode == 0 and f"s3://{BUCKET}/out" in shown, shown
    ours = ["_run/config.yaml", "_run/manifest.json", "_run/metrics.json", "part-00000.parquet", "part-00001.parquet"]
    assert names(filesystem, f"{BUCKET}/out") == ours
    whole = start(here, environment)
    whole.communicate(timeout=PATIENCE_S)
    assert whole.returncode == 0
    parts = [pq.read_table(f"{BUCKET}/out/{name}", filesystem=filesystem) for name in ours[3:]]
    local = [pq.read_table(tmp_path / "out" / name) for name in ours[3:]]
    assert pa.concat_tables(parts).select(OURS).equals(pa.concat_tables(local).select(OURS))
