"""The output's schema, contract 4: one for good and bad rows."""

import pyarrow as pa
import pytest

from pipeline.dataset.schema import SEGMENT_TYPE, build_table, output_schema
from pipeline.records import RowResult
from tests.pipeline.made_up_rows import BAD, GOOD


def test_good_and_bad_rows_share_one_schema():
    rows = pa.table({"id": [1], "note": pa.nulls(1)})
    good, bad = build_table(rows, [GOOD], "stars"), build_table(rows, [BAD], "stars")
    assert good.schema.equals(bad.schema) and good.schema.equals(output_schema(rows.schema, "stars"))
    assert good.schema.field("segments").type == pa.list_(SEGMENT_TYPE)
    assert good.schema.field("reward").type == pa.float64() and good.schema.field("seed").type == pa.int64()
    assert bad["response"].to_pylist() == [None] and bad["segments"].to_pylist() == [[]]
    assert bad["error"].to_pylist() == ["lone \\ud800 surrogate"]
    assert good["segments"].to_pylist()[0][1]["accepted_by"] == "fallback"


def test_best_of_n_keeps_its_candidates():
    result = RowResult("best_of_n", 1, "stop", response="b", responses=("a", "b"), rewards=(0.1, 0.2))
    table = build_table(pa.table({"id": [1]}), [result], "best_of_n")
    assert table["responses"].to_pylist() == [["a", "b"]] and table["rewards"].to_pylist() == [[0.1, 0.2]]


def test_a_missing_result_is_no_output():
    with pytest.raises(AssertionError, match="2 rows, but 1 results"):
        build_table(pa.table({"id": [1, 2]}), [GOOD], "stars")
