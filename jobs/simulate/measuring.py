"""From a config of real models to the costs of their calls: its first prompts, aligned on one cell of this machine.

One cohort is in flight, so that no call shares its time with another.
"""

import numpy as np

from actors.startup.ready_models import ready_models
from jobs.simulate.costs import Costs, measure_costs
from pipeline.config.align import AlignConfig
from pipeline.dataset.columns import check_columns
from pipeline.dataset.plan import Span, plan_input
from pipeline.dataset.reading import read_shards
from pipeline.dataset.rows import check_rows
from pipeline.records import PromptRow


def measure_config(config: AlignConfig, num_prompts: int, hardware: str | None) -> Costs:
    """Raises:
    StarsError: the config or its input must be corrected, or a model could not be loaded.
    """
    rows = _first_rows(config, num_prompts)
    one_cell = config.cluster.model_copy(update={"cells": 1, "policies_per_cell": 1, "rewards_per_cell": 1})
    one_by_one = config.coordinator.model_copy(update={"cohorts_in_flight": 1})
    config = config.model_copy(update={"cluster": one_cell, "coordinator": one_by_one})
    with ready_models([config], print) as ready:
        config = config.model_copy(update={"engine": ready.decoding.engine})
        return measure_costs(config, ready.models.cells[0], rows, hardware)


def _first_rows(config: AlignConfig, num_prompts: int) -> list[PromptRow]:
    plan = plan_input(config.input, num_prompts, num_prompts)
    columns = check_columns(plan.schema, config)
    _, table = next(iter(read_shards(plan, columns, Span(0, plan.num_rows))))
    return check_rows(table, 0, columns, np.zeros(0, dtype=np.int64))
