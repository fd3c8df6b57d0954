"""Every way a row can be wrong, one line each, and that the rows beside it are unharmed."""

import numpy as np
import pyarrow as pa
import pytest

from pipeline.config.align import AlignConfig
from pipeline.dataset.columns import InputColumns
from pipeline.dataset.rows import RowSampling, check_row, check_rows

USER = {"role": "user", "content": "hi"}
NO_DUPLICATES = np.empty(0, np.int64)


def test_a_good_prompt_and_good_messages():
    assert check_row(3, "a", "hi", None, None).prompt == "hi"
    row = check_row(3, "a", "ignored", [{"role": "system", "content": "be kind", "name": None}, USER], None)
    assert row.error_type is None and row.prompt is None
    assert row.messages == ({"role": "system", "content": "be kind"}, USER)


@pytest.mark.parametrize(
    ("row_id", "prompt", "messages", "sampling", "error_type", "words"),
    [
        ("a", None, None, None, "null_prompt", "null"),
        ("a", "", None, None, "empty_prompt", "is empty"),
        ("a", " \n\t", None, None, "empty_prompt", "white space"),
        ("a", 3, None, None, "prompt_not_text", "int"),
        (None, "hi", None, None, "null_id", "id is null"),
        ("a", "hi", [], None, "bad_messages", "empty"),
        ("a", "hi", "text", None, "bad_messages", "str"),
        ("a", None, [USER, None], None, "bad_messages", "turn 1 is null"),
        ("a", None, [{"role": "usr", "content": "hi"}], None, "bad_messages", "did you mean 'user'"),
        ("a", None, [{"role": 1, "content": "hi"}], None, "bad_messages", "known roles"),
        ("a", None, [{"role": "user", "content": None}], None, "bad_messages", "content that is null"),
        ("a", None, [{"role": "user", "content": 7}], None, "bad_messages", "a int, not text"),
        ("a", None, [{"content": "hi"}], None, "bad_messages", "role None"),
        ("a", None, [USER, {"role": "assistant", "content": "ok"}], None, "bad_messages", "not 'user'"),
        ("a", None, [{"role": "user", "content": " "}], None, "empty_prompt", "last user turn"),
        ("a", "hi", None, {"temperature": -1.0}, "bad_sampling_params", "sampling_params.temperature"),
        ("a", "hi", None, {"top_p": 0.0}, "bad_sampling_params", "sampling_params.top_p"),
        ("a", "hi", None, {"seed": -1}, "bad_sampling_params", "sampling_params.seed"),
        ("a", "hi", None, {"top_k": "many"}, "bad_sampling_params", "sampling_params.top_k"),
        ("a", "hi", None, {"top_k": 2**40}, "bad_sampling_params", "sampling_params.top_k"),
        ("a", "hi", None, {"temperature": 1e300}, "bad_sampling_params", "sampling_params.temperature"),
        ("a", "hi", None, {"temprature": 1.0}, "bad_sampling_params", "did you mean 'temperature'"),
        ("a", "hi", None, [1], "bad_sampling_params", "not a struct"),
    ],
)
def test_a_fault_is_named(row_id, prompt, messages, sampling, error_type, words):
    row = check_row(5, row_id, prompt, messages, sampling)
    assert row.error_type == error_type and words in row.error
    assert row.row_index == 5 and row.prompt is None and row.messages is None


def test_sampling_params_override_field_by_field():
    given = {"temperature": 0, "top_k": None, "max_new_tokens": 7, "seed": 3}
    assert check_row(0, "a", "hi", None, given).sampling_overrides == {
        "temperature": 0.0,
        "max_new_tokens": 7,
        "seed": 3,
    }


def test_a_rows_seed_has_the_range_of_the_runs_seed():
    assert RowSampling.model_fields["seed"].metadata == AlignConfig.model_fields["seed"].metadata


def test_one_broken_row_harms_no_other():
    raw = pa.array([b"fine", b"\xff\xfe", b"also fine"], pa.binary())
    prompts = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    table = pa.table({"id": [1, 2, 3], "prompt": prompts})
    rows = check_rows(table, 10, columns(), NO_DUPLICATES)
    assert [row.error_type for row in rows] == [None, "prompt_not_text", None]
    assert [row.row_index for row in rows] == [10, 11, 12]
    assert [row.prompt for row in rows] == ["fine", None, "also fine"]


def test_duplicates_are_named_by_their_place_in_the_input():
    table = pa.table({"id": ["a", "b", "a"], "prompt": ["x", None, "y"]})
    rows = check_rows(table, 100, columns(), np.array([2, 101, 102, 400]))
    assert [row.error_type for row in rows] == [None, "null_prompt", "duplicate_id"]


def test_ids_of_any_type_key_the_same_draws():
    for ids in (pa.array([7, 8]), pa.array([7.0, 8.0]), pa.array(["7", "8"]), pa.array(["7", "8"]).dictionary_encode()):
        rows = check_rows(pa.table({"id": ids, "prompt": ["x", "y"]}), 0, columns(), NO_DUPLICATES)
        assert [row.row_id for row in rows] == ["7", "8"]


def columns() -> InputColumns:
    return InputColumns(id="id", adds_id=False, prompt="prompt", messages=None, sampling_params=None)


def test_the_columns_that_a_reward_asked_for_come_along():
    table = pa.table({"id": ["a", "b", "c"], "prompt": ["x", "", "z"], "answer": [1, 2, None], "other": [7, 8, 9]})
    columns = InputColumns("id", False, "prompt", None, None)
    rows = check_rows(table, 0, columns, NO_DUPLICATES, ("answer",))
    assert [row.columns for row in rows] == [{"answer": 1}, {"answer": 2}, {"answer": None}]
    assert [row.error_type for row in rows] == [None, "empty_prompt", None]


def test_an_asked_column_that_is_not_utf8_is_the_rows_fault():
    answers = pa.array([b"fine", b"\xff"], pa.binary()).view(pa.string())
    table = pa.table({"id": ["a", "b"], "prompt": ["x", "y"], "answer": answers})
    rows = check_rows(table, 0, InputColumns("id", False, "prompt", None, None), NO_DUPLICATES, ("answer",))
    assert [row.error_type for row in rows] == [None, "column_not_text"]
    assert rows[0].columns == {"answer": "fine"} and "'answer' is not valid UTF-8" in rows[1].error
