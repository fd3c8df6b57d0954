"""The measurement of determinism, whole on fake models; a shape that loses rows is an error, not a difference."""

import pytest
import ray
import yaml
from rich.console import Console

from jobs.determinism.shapes import SHAPES, DeterminismError, Measured, differences_table, measure, same_rows
from pipeline.errors import StarsError
from tests.jobs.made_up_outputs import GOOD, IDS, result, write_output

FAKES = ["--config", "jobs/configs/embedded.yaml", "baseline_rows=0", "generation.max_new_tokens=32", "max_rows=24",
         "policy.backend=fake", "reward.backend=fake", "strategy.reward_threshold=0.5"]  # fmt: skip


@pytest.mark.ray
def test_every_shape_runs_the_same_rows_and_fakes_do_not_differ(ray_cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", ray.get_runtime_context().gcs_address)  # the three jobs share one head
    measured = list(measure(FAKES, tmp_path / "outputs", ["bfloat16, 1 thread"]))
    assert [row.shape for row in measured] == ["two cells", "four cells"]
    assert all(row.differences.num_rows == 24 and row.differences.is_clean for row in measured)
    configs = [yaml.safe_load(path.read_text()) for path in sorted(tmp_path.glob("outputs/0-*/_run/config.yaml"))]
    cells = {config["cluster"]["cells"]: config["engine"]["slots"] for config in configs}
    assert cells == {1: 64, 2: 23, 4: 10} and len(cells) == len(SHAPES)
    assert {config["policy"]["dtype"] for config in configs} == {"bfloat16"}


@pytest.mark.ray
def test_a_run_that_fails_is_an_error_that_names_its_log(tmp_path):
    job = [*FAKES, "strategy.betta=1"]
    with pytest.raises(StarsError, match=r"jobs\.align ended with 2; see .*/0-one-cell\.log"):
        list(measure(job, tmp_path / "outputs", ["float32, 1 thread"]))
    assert "did you mean 'strategy.beta'?" in (tmp_path / "outputs/0-one-cell.log").read_text()


def test_differences_are_shown_by_column(tmp_path):
    first = write_output(tmp_path / "a", IDS, GOOD)
    second = write_output(tmp_path / "b", IDS, [result(0, 0.6, "other"), result(1, 0.6), *GOOD[2:]])
    differences = same_rows(first, second)
    console = Console(width=120)
    with console.capture() as shown:
        console.print(differences_table([Measured("float32, 1 thread", "two cells", differences)]))
    line = next(line for line in shown.get().splitlines() if "two cells" in line)
    assert [cell.strip() for cell in line.strip("│").split("│")][2:] == ["1 of 4", "2 of 4", "0 of 4"]


def test_outputs_of_other_rows_are_not_compared(tmp_path):
    first = write_output(tmp_path / "a", IDS, GOOD)
    second = write_output(tmp_path / "b", IDS[::-1], GOOD[::-1])
    with pytest.raises(DeterminismError, match="other rows"):
        same_rows(first, second)
