"""Two outputs of the same input, row by row, equal to the last bit or not. All rows count, error rows too."""

from collections import Counter
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from pipeline.runs.outputs import finished_run

COMPARED = ("response", "reward", "segments", "finish_reason", "error_type")


@dataclass(frozen=True, slots=True)
class Differences:
    """Counts of rows. `num_misplaced` are those at another place than in the reference, lost ones aside; `by_column`
    counts, for each of COMPARED, the rows that differ there."""

    num_rows: int = 0
    num_lost: int = 0
    num_duplicated: int = 0
    num_different: int = 0
    num_misplaced: int = 0
    by_column: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: "Differences") -> "Differences":
        return Differences(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Differences)))

    def __str__(self) -> str:
        return (
            f"{self.num_rows:,} rows compared: {self.num_lost:,} lost, {self.num_duplicated:,} duplicated, "
            f"{self.num_different:,} different, {self.num_misplaced:,} out of order"
        )

    @property
    def has_same_rows(self) -> bool:
        """Every row is there once, in the reference's order."""
        return not (self.num_lost or self.num_duplicated or self.num_misplaced)

    @property
    def is_clean(self) -> bool:
        return self.has_same_rows and not self.num_different


def compare_outputs(reference: Path, output: Path) -> Differences:
    """Every row of both directories' part files, matched by id."""
    expected, got = read_rows(reference), read_rows(output)
    ids, got_ids = [row["id"] for row in expected], [row["id"] for row in got]
    wanted, found = Counter(ids), Counter(got_ids)
    rows = {row["id"]: row for row in got}
    pairs = [(row, rows[row["id"]]) for row in expected if row["id"] in rows]
    unequal = [[name for name in COMPARED if a[name] != b[name]] for a, b in pairs]
    return Differences(
        num_rows=len(expected),
        num_lost=(wanted - found).total(),
        num_duplicated=(found - wanted).total(),
        num_different=sum(map(bool, unequal)),
        num_misplaced=sum(a != b for a, b in zip([i for i in ids if i in found], got_ids, strict=False)),
        by_column=Counter(name for names in unequal for name in names),
    )


def read_rows(output: Path) -> list[dict[str, Any]]:
    """The ids and the compared columns of a finished run's rows, in order."""
    rows = finished_run(str(output)).aligned.rows(["id", *COMPARED])
    return [{name: row[name] for name in ("id", *COMPARED)} for row in rows]
