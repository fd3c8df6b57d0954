"""What a run starts on the cluster beside its models: the monitor, and the search for repeated ids."""

from typing import Any

import numpy as np
import ray

from actors.batch.monitor import Monitor
from actors.cluster.placement import Models
from pipeline.dataset.columns import InputColumns
from pipeline.dataset.duplicates import RowIndices, find_duplicates
from pipeline.dataset.plan import InputPlan
from pipeline.runs.retry import Retry


def start_monitor(models: Models) -> Any:
    """Restarted where its node dies: counters may be lost, a run may not fail for want of them."""
    node_ids = tuple(cell.node_id for cell in models.cells)
    return ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Monitor).remote(node_ids)


def start_duplicate_search(plan: InputPlan, columns: InputColumns) -> Any:
    """A reference to `find_duplicates`' answer; a task's, because the driver's memory must not grow with the rows."""
    return ray.remote(num_cpus=1)(find_duplicates).remote(plan, columns)


def start_retry_duplicates(retry: Retry, duplicates: Any) -> Any:
    """The same for rows that are redone, from the whole input's answer: a row repeats an id though it comes alone."""
    return ray.remote(num_cpus=1)(_places_of).remote(retry.row_indices, duplicates)


def _places_of(row_indices: RowIndices, duplicates: RowIndices) -> RowIndices:
    return np.flatnonzero(np.isin(row_indices, duplicates)).astype(np.int64)
