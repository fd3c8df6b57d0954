"""The main job on the embedded models, in this process and on its cluster."""

from actors.batch.deciding_sources import DECIDING_SOURCES
from actors.batch.run import run_align
from pipeline.config.loading import load_config
from pipeline.dataset.columns import check_columns
from pipeline.dataset.plan import plan_input
from pipeline.runs.directory import RunDirectory

CONFIG = "jobs/configs/embedded.yaml"
MAX_NEW_TOKENS = "generation.max_new_tokens=48"
ON_CPUS = ("cluster.gpus_per_policy=0", "cluster.gpus_per_reward=0")


def run_embedded(output, *overrides):
    """24 rows, as `jobs.align` would do them; returns the run's metrics."""
    given = [*ON_CPUS, MAX_NEW_TOKENS, "max_rows=24", "baseline_rows=0", f"output={output}"]
    config = load_config(CONFIG, [*given, *overrides])
    plan = plan_input(config.input, config.dataset.rows_per_shard, config.max_rows)
    run = RunDirectory.open(config, plan, DECIDING_SOURCES)
    return run_align(config, plan, check_columns(plan.schema, config), run)
