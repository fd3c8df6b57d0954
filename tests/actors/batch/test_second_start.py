"""A second start of a run that is alive: refused before a cluster or a model is asked for, and nothing is disturbed."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from actors.batch.deciding_sources import DECIDING_SOURCES
from actors.batch.run import run_align
from pipeline.dataset.columns import check_columns
from pipeline.dataset.plan import plan_input
from pipeline.errors import OutputError
from pipeline.runs.directory import RunDirectory
from tests.configs import fake_config


def test_a_second_start_is_refused_and_named_the_first(tmp_path):
    pq.write_table(pa.table({"prompt": ["hi"]}), tmp_path / "in.parquet")
    config = fake_config(input=str(tmp_path / "in.parquet"), output=str(tmp_path / "out"))
    plan = plan_input(config.input, None, None)
    first, second = (RunDirectory.open(config, plan, DECIDING_SOURCES) for _ in range(2))
    was_initialized = ray.is_initialized()
    with first.held(print):
        left = first.run / f".tmp-{first.root.writer}-half"
        left.write_text("under way")
        with pytest.raises(OutputError, match=r"out' is being worked on by process \d+ on "):
            run_align(config, plan, check_columns(plan.schema, config), second)
        assert left.read_text() == "under way"
        first.check_lease()
    assert ray.is_initialized() == was_initialized
