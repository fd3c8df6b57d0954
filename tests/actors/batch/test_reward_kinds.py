"""Whole runs with rewards that are no model: columns that come along, rows at fault, rows that are tried again."""

import asyncio

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.batch.deciding_sources import DECIDING_SOURCES
from actors.batch.run import run_align
from pipeline.dataset.columns import check_columns
from pipeline.dataset.plan import plan_input
from pipeline.errors import InputError
from pipeline.runs.directory import RunDirectory
from tests.configs import fake_config
from tests.endpoint import chat, serving

pytestmark = pytest.mark.ray
FUNCTION = """
import os
async def score(prompts, completions, wish, finished):
    if "broken" in wish and not os.path.exists(__file__ + ".mended"):
        raise LookupError("no wish can be looked up")
    return [-abs(len(completion) - length) for completion, length in zip(completions, map(len, wish))]
"""


def run(tmp_path, retry_errors=False, **sections):
    config = fake_config(input=str(tmp_path / "in.parquet"), output=str(tmp_path / "out"), **sections)
    plan = plan_input(config.input, 4, None)
    columns, run = check_columns(plan.schema, config), RunDirectory.open(config, plan, DECIDING_SOURCES)
    metrics = run_align(config, plan, columns, run, retry_errors)
    return metrics, pq.read_table(tmp_path / "out", filters=None).to_pylist()


def test_a_function_steers_a_run_and_its_error_rows_are_tried_again(ray_cluster, tmp_path):
    wishes = ["x" * 5, "broken", "x" * 11, "y"] * 3
    pq.write_table(pa.table({"prompt": [f"p{i}" for i in range(12)], "wish": wishes}), tmp_path / "in.parquet")
    (tmp_path / "mine.py").write_text(FUNCTION)
    reward = {"kind": "function", "function": f"{tmp_path}/mine.py:score", "processes": 2, "rows_per_call": 3}
    metrics, rows = run(tmp_path, reward=reward)
    assert [row["error_type"] for row in rows] == [None, "reward_failed", None, None] * 3
    assert all("raised LookupError: no wish can be looked up (mine.py:5)" in row["error"] for row in rows[1::4])
    good = [row for row in rows if row["error_type"] is None]
    assert [row["reward"] for row in good] == [-abs(len(row["response"]) - len(row["wish"])) for row in good]
    assert metrics.aligned.totals.num_reward_tokens == 0 and 0 < metrics.aligned.reward.busy_fraction <= 1
    (tmp_path / "mine.py.mended").write_text("")
    _, again = run(tmp_path, retry_errors=True, reward=reward)
    assert [row["error_type"] for row in again] == [None] * 12
    assert [row for row in again if row["wish"] != "broken"] == good


def test_a_column_that_the_input_lacks_is_refused(tmp_path):
    pq.write_table(pa.table({"prompt": ["p"], "wishes": ["x"]}), tmp_path / "in.parquet")
    (tmp_path / "mine.py").write_text(FUNCTION)
    reward = {"kind": "function", "function": f"{tmp_path}/mine.py:score"}
    with pytest.raises(InputError, match="reward: the input has no column 'wish'; did you mean 'wishes'"):
        run(tmp_path, reward=reward)


def test_a_judge_is_as_busy_as_its_concurrency_allows_and_a_resume_pays_nothing_twice(ray_cluster, tmp_path):
    """The judge answers nobody until all 16 places are taken, so that it would hang if one stayed empty."""
    pq.write_table(pa.table({"prompt": [f"p{i}" for i in range(96)]}), tmp_path / "in.parquet")
    waiting, released = [], asyncio.Event()

    async def judge(path, body):
        nonlocal released
        waiting.append(body)
        turn = released
        if len(waiting) == 16:
            waiting.clear()
            turn.set()
            released = asyncio.Event()
        await turn.wait()
        return chat(str(1 + len(body["messages"][0]["content"]) % 10))

    keys = {"engine": {"slots": 64}, "strategy": {"name": "vanilla", "segment_size": 24}}
    with serving(judge) as (endpoint, url):
        reward = {"kind": "judge", "base_url": f"{url}/v1", "model": "m", "max_tries": 1, "timeout_s": 120}
        _, rows = run(tmp_path, reward=reward, **keys)
        assert [row["error_type"] for row in rows] == [None] * 96
        assert endpoint.most == 16 and len(endpoint.requests) == 96
        for part in (tmp_path / "out").glob("part-*.parquet"):
            part.unlink()
        (tmp_path / "out/_run/manifest.json").unlink()
        _, again = run(tmp_path, reward=reward, **keys)
    told = [[(row["response"], row["reward"]) for row in rows] for rows in (rows, again)]
    assert told[0] == told[1] and len(endpoint.requests) == 96
