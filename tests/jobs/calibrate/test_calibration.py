"""A calibration from rollouts to its YAML, through the main job's own runs with fake models."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from actors.batch.deciding_sources import DECIDING_SOURCES
from actors.batch.run import run_align
from jobs.calibrate.run_calibration import Calibration, CalibrationRuns, calibrate
from jobs.calibrate.solving import Target
from pipeline.config.loading import load_config
from pipeline.dataset.columns import check_columns
from pipeline.dataset.plan import plan_input
from pipeline.runs.directory import RunDirectory
from tests.configs import fake_config

pytestmark = pytest.mark.ray


def write_prompts(path, first, count):
    """A fake reward reads the prompt's letters too, so they are alike."""
    texts = [f"prompt {i}" for i in range(first, first + count)]
    pq.write_table(pa.table({"id": texts, "prompt": texts}), path)
    return str(path)


def test_the_written_config_runs_and_costs_what_it_says_on_other_prompts(ray_cluster, tmp_path):
    training = write_prompts(tmp_path / "train.parquet", 1000, 200)
    heldout = write_prompts(tmp_path / "heldout.parquet", 2000, 200)
    one_ahead = {"proposals_per_round": 1}  # what is drawn ahead in vain depends on the machine's pace
    config = fake_config(input=heldout, output=str(tmp_path / "out"), generation={"max_new_tokens": 48})
    config = config.model_copy(update={"strategy": config.strategy.model_copy(update=one_ahead)})
    folder = str(tmp_path / "calibration")
    calibration = Calibration(config, training, 200, folder, Target("policy_tokens", 160.0), max_probes=2)

    calibrated = calibrate(CalibrationRuns(calibration), Console(quiet=True))

    text = (tmp_path / "calibration/calibrated.yaml").read_text()
    assert text.startswith("# Calibrated by jobs.calibrate for policy_tokens = 160; expected: ")
    assert "after token  rollouts" in text and f"# Measured on 200 prompts of {training}." in text
    written = load_config(str(tmp_path / "calibration/calibrated.yaml"), [])
    assert written.strategy == calibrated.config.strategy and written.input == heldout
    plan = plan_input(written.input, None, None)
    metrics = run_align(
        written, plan, check_columns(plan.schema, written), RunDirectory.open(written, plan, DECIDING_SOURCES)
    )
    assert calibrated.predicted == pytest.approx(160, rel=0.15)  # a fake's rewards have steps
    assert metrics.aligned.policy_tokens_per_row == pytest.approx(calibrated.predicted, rel=0.1)

    probes = sorted(path.name for path in (tmp_path / "calibration").glob("probe-*"))
    again = calibrate(CalibrationRuns(calibration), Console(quiet=True))
    assert again.config == calibrated.config and again.probes == calibrated.probes
    assert sorted(path.name for path in (tmp_path / "calibration").glob("probe-*")) == probes
