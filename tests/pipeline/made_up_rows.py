"""A good and a bad result, and input rows whose column types are easily lost."""

import datetime

import numpy as np
import pyarrow as pa

from pipeline.records import RowResult, SegmentRecord

GOOD = RowResult(
    "stars",
    1,
    "stop",
    response="yes",
    reward=0.5,
    num_response_tokens=3,
    segments=(SegmentRecord(2, 0.1, 0.2, 0.3, 4, "rule"), SegmentRecord(1, 0.5, 0.2, 1.0, 20, "fallback")),
)
BAD = RowResult("stars", 1, "error", error_type="null_prompt", error="lone \ud800 surrogate")


def odd_rows(num_rows):
    """Columns that travel badly, so that a lost type shows."""
    return pa.table(
        {
            "id": np.arange(num_rows),
            "prompt": [f"p{i}" for i in range(num_rows)],
            "nothing": pa.nulls(num_rows),
            "when": pa.array([datetime.datetime(2020, 1, 1)] * num_rows, pa.timestamp("us", "Europe/Berlin")),
            "kind": pa.array([f"k{i % 3}" for i in range(num_rows)]).dictionary_encode(),
            "nested": pa.array([[{"a": [1, None]}], None][i % 2] for i in range(num_rows)),
            "bytes": pa.array([b"\0\0"] * num_rows),
        }
    )
