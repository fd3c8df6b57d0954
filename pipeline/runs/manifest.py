"""`_run/manifest.json`: what decides a run's rows, what its first start fixed, and how far it is.

Invariants: `gathered` names a stage only after all its part files are in place; the file is written atomically, so it
is never half there.
"""

import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pipeline.config.model import ModelConfig
from pipeline.errors import OutputError
from pipeline.runs.fingerprint import package_version
from pipeline.storage import Location

PACKAGES = ("stars-align", "ray", "torch", "transformers", "pyarrow", "numpy")


@dataclass(frozen=True, slots=True)
class Manifest:
    """`engine` and `commits` are what the first start found and later ones keep: `slots` and `max_model_len`, which
    followed from the memory that was free, and the commits of models with Hub names."""

    fingerprint: dict[str, Any]
    versions: dict[str, str]
    seed: int
    started: str
    status: str = "running"
    finished: str | None = None
    gathered: tuple[str, ...] = ()
    engine: dict[str, int] = field(default_factory=dict)
    commits: dict[str, str] = field(default_factory=dict)

    def is_gathered(self, stage: str) -> bool:
        return self.is_finished or stage in self.gathered

    def commit_of(self, model: ModelConfig) -> str | None:
        """The commit that the first start found; the revision that is asked for where it found none."""
        return self.commits.get(str(model.hub_name), model.revision)

    @property
    def is_finished(self) -> bool:
        return self.status == "finished"

    def save(self, root: Location) -> None:
        _file(root).write_text(TypeAdapter(Manifest).dump_json(self, indent=2).decode() + "\n")


def new_manifest(fingerprint: dict[str, Any], seed: int) -> Manifest:
    versions = {"python": platform.python_version()} | {name: package_version(name) for name in PACKAGES}
    return Manifest(fingerprint, versions, seed, now())


def read_manifest(root: Location) -> Manifest | None:
    """The manifest of the run in this directory, if there is one.

    Raises:
        OutputError: what stands in its place is none.
    """
    location = _file(root)
    if not location.exists():
        return None
    try:
        return TypeAdapter(Manifest).validate_json(location.read_text())
    except ValidationError:
        raise OutputError(f"{str(location)!r} is not a manifest of this program; choose another output") from None


def now() -> str:
    """The time for a person to read."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _file(root: Location) -> Location:
    return root / "_run" / "manifest.json"
