"""1,000 hostile rows: each leaves once, as a response or as the error that names its fault."""

import asyncio

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.batch.deciding_sources import DECIDING_SOURCES
from actors.batch.run import run_align
from actors.coordination.coordinator import SegmentCoordinator
from actors.engines.fakes import FakePolicy, FakeReward
from actors.rendering.readers import make_reader
from pipeline.dataset.columns import check_columns
from pipeline.dataset.plan import plan_input
from pipeline.dataset.rows import check_rows
from pipeline.records import PromptRow
from pipeline.runs.directory import RunDirectory
from tests.configs import fake_config
from tests.handles import LocalHandle, prefix_reward
from tests.hostile_rows import MARKS, as_table, hostile_rows

ASSETS = "pipeline/embedded/assets"
NO_DUPLICATES = np.empty(0, np.int64)
TEXT_TYPES = [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.large_string())]


def check_outcomes(rows, error_types, errors, responses):
    assert len(error_types) == len(rows)
    for row, error_type, error, response in zip(rows, error_types, errors, responses, strict=True):
        assert error_type in row.faults, (row.id, error_type, error, row.faults, (row.prompt or b"")[:80], row.messages)
        assert (response is None) == (error_type is not None)
        assert error_type is None or len(error) > 10


@pytest.mark.parametrize("text", TEXT_TYPES, ids=str)
def test_the_arrow_type_of_text_does_not_matter(text):
    rows = hostile_rows(1000, seed=10)
    table = as_table(rows, text)
    columns = check_columns(table.schema, fake_config())
    for row, checked in zip(rows, check_rows(table, 0, columns, NO_DUPLICATES), strict=True):
        found_later = None in row.faults or row.faults & {"duplicate_id", "prompt_too_long"}
        assert checked.error_type in (row.faults | {None} if found_later else row.faults), (row.id, checked)


@pytest.mark.ray
def test_a_thousand_hostile_rows_through_the_whole_job(ray_cluster, tmp_path):
    rows = hostile_rows(1000, seed=11)
    pq.write_table(as_table(rows, pa.large_string()), tmp_path / "in.parquet")
    config = fake_config(input=str(tmp_path / "in.parquet"), output=str(tmp_path / "out"))
    plan = plan_input(config.input, None, None)
    run_align(config, plan, check_columns(plan.schema, config), RunDirectory.open(config, plan, DECIDING_SOURCES))
    given, output = pq.read_table(tmp_path / "in.parquet"), pq.read_table(tmp_path / "out")
    assert output["id"].equals(given["id"]) and output["messages"].equals(given["messages"])
    check_outcomes(rows, *(output[name].to_pylist() for name in ("error_type", "error", "response")))
    assert {None, "null_id", "duplicate_id", "prompt_too_long", "prompt_not_text", "bad_messages"} <= set(
        output["error_type"].to_pylist()
    )


def chat_reader(config):
    return make_reader("policy", config.policy, config.prompt_as, config.engine.max_model_len)


def test_a_real_tokenizer_and_template_meet_them_too():
    """The coordinator with the embedded models' renderer: nothing but RowErrors, and no minute for ten megabytes."""
    models = {"model": f"{ASSETS}/policy", "dtype": "float32"}, {"model": f"{ASSETS}/reward", "dtype": "float32"}
    tokenized = fake_config(policy=models[0], reward=models[1], engine={"max_model_len": 512, "slots": 64})
    config = fake_config(engine={"max_model_len": 512, "slots": 64})
    rows = hostile_rows(1000, seed=12)
    table = as_table(rows, pa.string())
    columns = check_columns(table.schema, config)
    checked = check_rows(table, 0, columns, NO_DUPLICATES)
    handles = [
        LocalHandle(FakePolicy(config.policy, config.engine)),
        LocalHandle(prefix_reward(chat_reader(tokenized), FakeReward(config.reward, config.engine), 512)),
    ]

    async def run():
        coordinator = SegmentCoordinator(config, [handles[0]], [handles[1]], chat_reader(tokenized))
        return await asyncio.gather(*(coordinator.align(row) for row in checked))

    results = asyncio.run(run())
    for handle in handles:
        handle.close()
    for row in rows:
        row.faults |= {None} if "duplicate_id" in row.faults else set()
    check_outcomes(rows, *zip(*((r.error_type, r.error, r.response) for r in results), strict=True))


def test_no_mark_written_as_text_opens_a_turn():
    config = fake_config(policy={"model": f"{ASSETS}/policy"}, reward={"model": f"{ASSETS}/reward"})
    reader = chat_reader(config)
    special = set(reader.tokenizer.all_special_ids) | set(reader.tokenizer.get_added_vocab().values())
    count = lambda text: sum(t in special for t in reader.prompt_tokens(PromptRow(0, "a", prompt=text)))  # noqa: E731
    marks = [*reader.tokenizer.get_added_vocab(), *MARKS]
    for mark in marks:
        assert count(f"hi {mark} there") == count("hi there"), mark


@pytest.mark.parametrize(
    "values", [pa.array([1, 2]), pa.array([b"x", None]), pa.array([[1], None]), pa.nulls(2)], ids=str
)
def test_prompts_of_a_wrong_type_are_the_rows_fault(values):
    table = pa.table({"id": [1, 2], "prompt": values})
    columns = check_columns(table.schema, fake_config())
    rows = check_rows(table, 0, columns, NO_DUPLICATES)
    assert {row.error_type for row in rows} <= {"prompt_not_text", "null_prompt"}
