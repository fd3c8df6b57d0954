"""docs/extending.md, followed to the letter in a copy of the project: what it shows is added, its commands are run."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```(python|diff|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FAKES = """
policy: {backend: fake}
reward: {backend: fake}
strategy: {name: stars, segment_size: 8, reward_threshold: 0.3}
generation: {max_new_tokens: 24}
engine: {slots: 8, max_model_len: 128}
"""


def sections():
    """Heading → its blocks, as (language, text)."""
    parts = re.split(r"^## ", (ROOT / "docs/extending.md").read_text(), flags=re.MULTILINE)[1:]
    return {part.partition("\n")[0].partition(":")[0]: BLOCK.findall(part) for part in parts}


def apply(folder, language, text):
    """Write a new file, or put the lines with `+` where the lines around them stand."""
    name, _, body = text.partition("\n")
    path = folder / name.removeprefix("# ")
    if language == "python":
        path.write_text(body)
        return
    lines = body.splitlines()
    before = "\n".join(line[1:] for line in lines if line[0] in " -")
    after = "\n".join(line[1:] for line in lines if line[0] in " +")
    source = path.read_text()
    assert source.count(before) == 1, f"{path.name} holds these lines {source.count(before)} times:\n{before}"
    path.write_text(source.replace(before, after))


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A copy of the project with everything that the page adds, and prompts to align."""
    folder = tmp_path_factory.mktemp("extended")
    for package in ("pipeline", "actors", "jobs"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for blocks in sections().values():
        for language, text in blocks:
            if language != "sh":
                apply(folder, language, text)
    (folder / "fakes.yaml").write_text(FAKES)
    prompts = ["tell me a story", "WRITE ME A POEM", "and then?"]
    pq.write_table(pa.table({"id": ["a", "b", "c"], "prompt": prompts}), folder / "prompts.parquet")
    return folder


def run(folder, *command):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def aligned(folder, heading, output):
    """Rows of the command that the section shows."""
    (command,) = [text for language, text in sections()[heading] if language == "sh"]
    words = [word.replace("output=out", f"output={output}") for word in shlex.split(command)]
    run(folder, *words[1:])
    return pq.read_table(next((folder / output).glob("part-*.parquet"))).to_pylist()


@pytest.mark.ray
def test_a_strategy_of_ones_own(extended):
    rows = aligned(extended, "A strategy", "out-strategy")
    assert [row["strategy"] for row in rows] == ["early_stop"] * 3
    segments = [segment for row in rows for segment in row["segments"]]
    assert all(s["reward"] >= 0.3 or s["num_attempts"] == 4 for s in segments)
    assert {s["num_attempts"] for s in segments} > {1}


@pytest.mark.ray
def test_a_reward_of_ones_own(extended):
    rows = aligned(extended, "A reward", "out-reward")
    assert [row["error_type"] for row in rows] == [None, "shouting", None]
    for row in (rows[0], rows[2]):
        assert row["reward"] == pytest.approx(max(0.0, 1 - len(row["response"]) / 200))


def test_an_engine_of_ones_own(extended):
    run(extended, "try_engine.py")
