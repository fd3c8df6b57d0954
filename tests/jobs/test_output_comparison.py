"""The comparison of two outputs sees every kind of damage, to the last bit, and counts it by column."""

from collections import Counter

import pytest

from jobs.output_comparison import Differences, compare_outputs
from tests.jobs.made_up_outputs import GOOD, IDS, result, write_output


@pytest.mark.parametrize(
    ("ids", "results", "seen"),
    [
        (IDS, GOOD, {}),
        (["a", "b", "d"], [GOOD[0], GOOD[1], GOOD[3]], {"num_lost": 1}),
        ([*IDS, "b"], [*GOOD, GOOD[1]], {"num_duplicated": 1}),
        (["b", "a", "c", "d"], [GOOD[1], GOOD[0], *GOOD[2:]], {"num_misplaced": 2}),
        (IDS, [result(0, response="other"), *GOOD[1:]], {"num_different": 1, "response": 1}),
        (IDS, [result(0, reward=0.5 + 1e-12), *GOOD[1:]], {"num_different": 1, "reward": 1}),
        (IDS, [result(0, 0.6, "other"), result(1, 0.6), *GOOD[2:]], {"num_different": 2, "response": 1, "reward": 2}),
    ],
)
def test_every_kind_of_damage_is_seen(tmp_path, ids, results, seen):
    reference, output = write_output(tmp_path / "reference", IDS, GOOD), write_output(tmp_path / "output", ids, results)
    found = compare_outputs(reference, output)
    names = ("num_lost", "num_duplicated", "num_different", "num_misplaced")
    counts = {name: getattr(found, name) for name in names if getattr(found, name)}
    assert counts | dict(found.by_column) == seen and found.num_rows == 4
    assert found.is_clean == (not seen)
    assert found.has_same_rows == (seen.keys() <= {"num_different", "response", "reward"})


def test_differences_add_up():
    one = Differences(4, num_lost=1, by_column=Counter(reward=1))
    assert (one + one).by_column == {"reward": 2}
    assert str(one + one) == "8 rows compared: 2 lost, 0 duplicated, 0 different, 0 out of order"
