"""What decides the responses of a run, as flat `field: value` pairs that two runs can be compared by.

Throughput-only settings are left out: a run may be continued with other slots, cohorts or GPUs.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from pipeline.config import AlignConfig
from pipeline.input_plan import InputPlan
from pipeline.storage import locate

THROUGHPUT_ONLY = frozenset(
    {
        "input",  # the files themselves are compared
        "output",
        "max_rows",  # its effect, the number of rows, is compared
        "max_error_rows",
        "judge",
        "engine.slots",
        "engine.prefill_chunk",
        "coordinator.cohorts_in_flight",
        "coordinator.max_cohort_size",
        "coordinator.call_timeout_s",
        "dataset.read_rows",
        *(f"{role}.{name}" for role in ("policy", "reward") for name in ("num_gpus", "num_threads")),
        *(f"{role}.{name}" for role in ("policy", "reward") for name in ("fake_call_ms", "fake_row_ms")),
    }
)


def fingerprint(config: AlignConfig, plan: InputPlan) -> dict[str, Any]:
    """Everything a finished output depends on, except the versions of the code."""
    fields = {name: value for name, value in _flat(config.model_dump(mode="json")) if name not in THROUGHPUT_ONLY}
    files = [[file.relative_path, file.digest, file.num_rows] for file in plan.files]
    return fields | {
        "input files": f"{len(files)} files, digest {_digest(files)}",
        "input rows": plan.num_rows,
        "input columns": f"{len(plan.schema.names)} columns, digest {_digest(str(plan.schema.remove_metadata()))}",
        "policy model files": _model_files(config.policy.model),
        "reward model files": _model_files(config.reward.model),
    }


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """One phrase per field that is not the same."""
    names = sorted(before.keys() | now.keys())
    return [
        f"{name} was {before.get(name)!r}, now {now.get(name)!r}" for name in names if before.get(name) != now.get(name)
    ]


def _flat(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs = []
    for name, value in tree.items():
        pairs += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(prefix + name, value)]
    return pairs


def _model_files(model: str) -> str | None:
    """Names and contents of a local model folder's files; None for a name that is resolved elsewhere."""
    folder = Path(model).expanduser()
    if not model or not folder.is_dir():
        return None
    files = sorted([path.name, locate(str(path)).sampled_digest()] for path in folder.iterdir() if path.is_file())
    return f"{len(files)} files, digest {_digest(files)}"


def _digest(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=8).hexdigest()
