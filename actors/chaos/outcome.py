"""What a disturbed run's output is against an undisturbed one's, read with pyarrow alone.

Responses must be equal, rewards and segments equal to TOLERANCE; whether those are equal to the bit is counted apart.
An acceptance probability is exp((R − τ) / beta), so it shows a difference of rewards 1 / beta times as large.
"""

import math
from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

TOLERANCE = 1e-6
TOLERANCE_OF = {"acceptance_probability": 1e-5}
EXACT = ("response", "finish_reason", "error_type")


@dataclass(frozen=True, slots=True)
class Outcome:
    """Counts of rows; `num_misplaced` are those at another place than in the reference, lost ones aside."""

    num_rows: int = 0
    num_lost: int = 0
    num_duplicated: int = 0
    num_different: int = 0
    num_misplaced: int = 0
    num_other_reward_bits: int = 0
    num_other_segment_bits: int = 0

    def __add__(self, other: "Outcome") -> "Outcome":
        return Outcome(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(Outcome)))

    @property
    def is_clean(self) -> bool:
        return not (self.num_lost or self.num_duplicated or self.num_different or self.num_misplaced)


def compare(reference: Path, output: Path) -> Outcome:
    """Every row of both directories' part files, matched by id."""
    expected, got = _read(reference), _read(output)
    ids, got_ids = [row["id"] for row in expected], [row["id"] for row in got]
    wanted, found = Counter(ids), Counter(got_ids)
    rows = {row["id"]: row for row in got}
    pairs = [(row, rows[row["id"]]) for row in expected if row["id"] in rows]
    return Outcome(
        num_rows=len(expected),
        num_lost=(wanted - found).total(),
        num_duplicated=(found - wanted).total(),
        num_different=sum(not _is_same(*pair) for pair in pairs),
        num_misplaced=sum(a != b for a, b in zip([i for i in ids if i in found], got_ids, strict=False)),
        num_other_reward_bits=sum(a["reward"] != b["reward"] for a, b in pairs),
        num_other_segment_bits=sum(a["segments"] != b["segments"] for a, b in pairs),
    )


def _read(output: Path) -> list[dict[str, Any]]:
    tables = [pq.read_table(file) for file in sorted(output.glob("part-*.parquet"))]
    return pa.concat_tables(tables).to_pylist() if tables else []


def _is_same(expected: dict[str, Any], got: dict[str, Any]) -> bool:
    return all(expected[name] == got[name] for name in EXACT) and _is_near(
        [expected["reward"], expected["segments"]], [got["reward"], got["segments"]]
    )


def _is_near(a: Any, b: Any, tolerance: float = TOLERANCE) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=0.0, abs_tol=tolerance)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_is_near(a[name], b[name], TOLERANCE_OF.get(name, TOLERANCE)) for name in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_is_near, a, b))
    return bool(a == b)
