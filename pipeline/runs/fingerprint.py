"""What decides the responses of a run, as flat `field: value` pairs that two runs can be compared by.

Throughput-only settings are left out: a run may be continued with other slots, cohorts or GPUs. The code is compared
file by file, so that a refusal names the one that changed; which directories decide responses is the caller's to say.
"""

import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipeline.config.align import AlignConfig
from pipeline.config.cluster import ClusterConfig
from pipeline.config.model import ModelConfig
from pipeline.dataset.plan import InputPlan
from pipeline.errors import ConfigError
from pipeline.storage import locate

INPUT_ROWS = "input rows"
ROWS_PER_SHARD = "rows per shard"
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
        "dataset.rows_per_shard",  # as the plan has it, it is compared
        *(f"cluster.{name}" for name in ClusterConfig.model_fields),
        *(f"policy.{name}" for name in ModelConfig.throughput_only),
    }
)

DECIDING_PACKAGES = ("stars-align", "torch", "transformers")


@dataclass(frozen=True, slots=True)
class Sources:
    """The code that decides responses: files, and directories with every module below them, named by their paths under
    `root`."""

    root: Path
    names: tuple[str, ...]

    def digests(self) -> dict[str, str]:
        """The digest of every source by its path, blind to how a checkout ends its lines.

        Raises:
            LookupError: a name matches nothing, so that code which was moved is not silently left out.
        """
        files = sorted({path for name in self.names for path in self._files(name)})
        return {path.relative_to(self.root).as_posix(): _digest(path.read_text("utf-8")) for path in files}

    def _files(self, name: str) -> list[Path]:
        place = self.root / name
        found = [place] if place.is_file() else list(place.rglob("*.py"))
        if not found:
            raise LookupError(f"the fingerprint covers {name!r}, but there is no source of that name in {self.root}")
        return found


def fingerprint(config: AlignConfig, plan: InputPlan, sources: Sources) -> dict[str, Any]:
    """Everything a finished output depends on."""
    tree = config.model_dump(mode="json") | {"reward": config.reward.deciding()}
    fields = {name: value for name, value in _flat(tree) if name not in THROUGHPUT_ONLY}
    files = [[file.relative_path, file.digest, file.num_rows] for file in plan.files]
    return fields | {
        "input files": f"{len(files)} files, digest {_digest(files)}",
        INPUT_ROWS: plan.num_rows,
        ROWS_PER_SHARD: plan.rows_per_shard,
        "input columns": f"{len(plan.schema.names)} columns, digest {_digest(str(plan.schema.remove_metadata()))}",
        "policy model files": model_files(config.policy.model),
        "reward model files": [model_files(model.model) for model in config.reward.models],
        "reward files": [file_digest(path) for path in config.reward.files],
        **{f"version of {name}": package_version(name) for name in DECIDING_PACKAGES},
        **{f"code of {name}": digest for name, digest in sources.digests().items()},
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


def file_digest(path: str) -> str:
    """A file's name and a digest of its content.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        content = Path(path).expanduser().read_bytes()
    except OSError as error:
        raise ConfigError(f"{path!r} cannot be read: {error.strerror}") from None
    return f"{Path(path).name}, digest {hashlib.blake2b(content, digest_size=8).hexdigest()}"


def model_files(model: str) -> str | None:
    """Names and contents of a local model folder's files; None for a name that is resolved elsewhere."""
    folder = Path(model).expanduser()
    if not model or not folder.is_dir():
        return None
    files = sorted([path.name, locate(str(path)).sampled_digest()] for path in folder.iterdir() if path.is_file())
    return f"{len(files)} files, digest {_digest(files)}"


def package_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _digest(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=8).hexdigest()
