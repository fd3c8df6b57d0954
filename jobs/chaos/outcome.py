"""What a disturbed run's output is against an undisturbed one's, read with pyarrow alone: equal to the last bit."""

from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

COMPARED = ("response", "reward", "segments", "finish_reason", "error_type")


@dataclass(frozen=True, slots=True)
class Outcome:
    """Counts of rows; `num_misplaced` are those at another place than in the reference, lost ones aside."""

    num_rows: int = 0
    num_lost: int = 0
    num_duplicated: int = 0
    num_different: int = 0
    num_misplaced: int = 0

    def __add__(self, other: "Outcome") -> "Outcome":
        return Outcome(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(Outcome)))

    @property
    def is_clean(self) -> bool:
        return not (self.num_lost or self.num_duplicated or self.num_different or self.num_misplaced)


def compare(reference: Path, output: Path) -> Outcome:
    """Every row of both directories' part files, matched by id."""
    expected, got = read_rows(reference), read_rows(output)
    ids, got_ids = [row["id"] for row in expected], [row["id"] for row in got]
    wanted, found = Counter(ids), Counter(got_ids)
    rows = {row["id"]: row for row in got}
    pairs = [(row, rows[row["id"]]) for row in expected if row["id"] in rows]
    return Outcome(
        num_rows=len(expected),
        num_lost=(wanted - found).total(),
        num_duplicated=(found - wanted).total(),
        num_different=sum(any(a[name] != b[name] for name in COMPARED) for a, b in pairs),
        num_misplaced=sum(a != b for a, b in zip([i for i in ids if i in found], got_ids, strict=False)),
    )


def read_rows(output: Path) -> list[dict[str, Any]]:
    """The rows of all part files, in order."""
    tables = [pq.read_table(file) for file in sorted(output.glob("part-*.parquet"))]
    return pa.concat_tables(tables).to_pylist() if tables else []
