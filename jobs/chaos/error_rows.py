"""Error rows made of good ones, as a fault that has passed leaves them: what `--retry-errors` is for."""

from collections.abc import Container
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset.parts import part_files
from pipeline.storage import locate

LOST = {"response": None, "reward": None, "prompt_reward": None, "segments": [], "finish_reason": "error"}
FAULT = {"error_type": "out_of_memory", "error": "the policy model ran out of memory"}


def inject_error_rows(output: Path, row_ids: Container[Any]) -> None:
    """Turn these rows of a finished output into error rows."""
    for file in part_files(locate(str(output))):
        table = pq.read_table(file.path)
        rows = [row | LOST | FAULT if row["id"] in row_ids else row for row in table.to_pylist()]
        pq.write_table(pa.Table.from_pylist(rows, table.schema), file.path)
