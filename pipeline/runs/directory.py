"""The run directory: what a run left there, and whether this run may go on with it.

    out/part-00000.parquet …      the output, once it is gathered
    out/_run/config.yaml          the resolved config
    out/_run/manifest.json        fingerprint, versions, seed, status, times
    out/_run/metrics.json         written when the run is finished
    out/_run/error.log            the traceback of the last start that failed
    out/_run/shards/              committed shards; deleted once gathered
    out/_run/retry/               error rows that are being redone (`pipeline.runs.retry`)
    out/_run/baseline/            the same, for the rows decoded plainly

Invariant: `gathered` in the manifest names a stage only after all its part files are in place.
"""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from pipeline.config.align import AlignConfig
from pipeline.dataset.files import reads
from pipeline.dataset.parts import part_file, part_files
from pipeline.dataset.plan import InputPlan
from pipeline.dataset.shards import SHARD_NAME
from pipeline.errors import OutputError
from pipeline.runs.fingerprint import ROWS_PER_SHARD, Sources, differences, fingerprint, package_version
from pipeline.storage import TEMPORARY_PREFIX, Location, locate

JOB_FOLDER = "/runtime_resources/working_dir_files/"  # where Ray unpacks what `ray job submit` sends
PACKAGES = ("stars-align", "ray", "torch", "transformers", "pyarrow", "numpy")


@dataclass(frozen=True, slots=True)
class Manifest:
    fingerprint: dict[str, Any]
    versions: dict[str, str]
    seed: int
    started: str
    status: str = "running"
    finished: str | None = None
    gathered: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stage:
    """One pass over the input: the aligned one, or the baseline; where its shards and its part files are, and
    where its error rows are redone."""

    name: str
    shards: Location
    parts: Location
    retry: Location


class RunDirectory:
    """One run's files. `manifest` is always what is on disk."""

    def __init__(self, root: Location, manifest: Manifest) -> None:
        self.root = root
        self.manifest = manifest

    @property
    def run(self) -> Location:
        return self.root / "_run"

    @property
    def metrics_file(self) -> Location:
        return self.run / "metrics.json"

    def kept_plan(self, plan: InputPlan) -> InputPlan:
        """The plan with the shards of the run's first start: another number of cells would cut the input otherwise."""
        return replace(plan, rows_per_shard=self.manifest.fingerprint[ROWS_PER_SHARD])

    @property
    def is_finished(self) -> bool:
        return self.manifest.status == "finished"

    @property
    def aligned(self) -> Stage:
        return Stage("aligned", self.run / "shards", self.root, self.run / "retry")

    @property
    def baseline(self) -> Stage:
        parts = self.run / "baseline"
        return Stage("baseline", parts / "shards", parts, parts / "retry")

    @property
    def error_log(self) -> Location:
        return self.run / "error.log"

    def write_error_log(self, text: str) -> None:
        """Keep the whole story of a failed run where its one line points to."""
        self.error_log.write_text(text)

    def mark_gathered(self, stage: Stage) -> None:
        """Record that the stage's output is whole, then let go of its shards."""
        if stage.name not in self.manifest.gathered:
            self._save(replace(self.manifest, gathered=(*self.manifest.gathered, stage.name)))
        stage.shards.delete_directory()

    def mark_finished(self) -> None:
        self._save(replace(self.manifest, status="finished", finished=_now()))

    def reopen(self) -> None:
        """A finished run gets work again: whoever starts it next goes on with that."""
        if self.is_finished:
            self._save(replace(self.manifest, status="running", finished=None))

    def _save(self, manifest: Manifest) -> None:
        (self.run / "manifest.json").write_text(TypeAdapter(Manifest).dump_json(manifest, indent=2).decode() + "\n")
        self.manifest = manifest

    @classmethod
    def find(cls, config: AlignConfig, plan: InputPlan, sources: Sources) -> "RunDirectory":
        """The run directory of `config.output`, new or left by a run of the same fingerprint; nothing is written.

        Args:
            sources: the code that decides the rows.

        Raises:
            OutputError: it cannot be used, or belongs to another run.
        """
        with _as_output_error(config.output):
            root = locate(config.output)
            _refuse_unfit_place(config, root)
            print_now = fingerprint(config, plan, sources)
            run = cls(root, _read_manifest(root) or _new_manifest(config, print_now))
            if not run._holds_work():
                run = cls(root, _new_manifest(config, print_now))
            if config.dataset.rows_per_shard is None:
                print_now[ROWS_PER_SHARD] = run.manifest.fingerprint.get(ROWS_PER_SHARD)
            _refuse_another_run(config.output, run, print_now)
            return run

    @classmethod
    def open(cls, config: AlignConfig, plan: InputPlan, sources: Sources) -> "RunDirectory":
        """The same, ready to be written to.

        Raises:
            OutputError: it cannot be written, or belongs to another run.
        """
        run = cls.find(config, plan, sources)
        with _as_output_error(config.output):
            if not run.is_finished:
                run._prepare(config)
        return run

    def _holds_work(self) -> bool:
        """Whether any row is committed; a run that failed before its first one stands in nobody's way."""
        return (
            self.is_finished
            or bool(self.manifest.gathered)
            or any(
                SHARD_NAME.fullmatch(name) for stage in (self.aligned, self.baseline) for name in stage.shards.names()
            )
        )

    def _prepare(self, config: AlignConfig) -> None:
        self.run.create_directory()
        for folder in (self.root, self.run, self.baseline.parts):
            for name in folder.names():
                if name.startswith(TEMPORARY_PREFIX):
                    folder.filesystem.delete_file((folder / name).path)
        self._save(self.manifest)
        text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        (self.run / "config.yaml").write_text(text)


def fresh_output(output: str) -> str:
    """`output` if nothing is there, else the first of `output-2`, `output-3`, … where nothing is.

    Raises:
        OutputError: no filesystem is known for it.
    """
    try:
        names = (output if n == 1 else f"{output.rstrip('/')}-{n}" for n in count(1))
        return next(name for name in names if _is_free(locate(name)))
    except (OSError, ValueError) as error:
        raise OutputError(f"output {output!r} cannot be looked at: {' '.join(str(error).split())}") from None


def _is_free(root: Location) -> bool:
    return not root.exists() or (root.is_directory() and not root.names())


def _new_manifest(config: AlignConfig, print_now: dict[str, Any]) -> Manifest:
    return Manifest(print_now, _versions(), config.seed, _now())


def _read_manifest(root: Location) -> Manifest | None:
    location = root / "_run" / "manifest.json"
    if not location.exists():
        if part_files(root):
            raise OutputError(f"output {str(root)!r} holds part files of something else; choose another directory")
        return None
    try:
        return TypeAdapter(Manifest).validate_json(location.read_text())
    except ValidationError:
        raise OutputError(f"{str(location)!r} is not a manifest of this program; choose another output") from None


@contextmanager
def _as_output_error(output: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise OutputError(f"output {output!r} cannot be written: {' '.join(str(error).split())}") from None


def _refuse_unfit_place(config: AlignConfig, root: Location) -> None:
    output = f"output {config.output!r}"
    if JOB_FOLDER in root.path:
        raise OutputError(
            f"{output} is in the job's own copy of the working directory, which goes with the job; "
            "give an absolute path or a URI"
        )
    if root.exists() and not root.is_directory():
        raise OutputError(f"{output} is a file, not a directory")
    if reads(config.input, part_file(root, 0)):
        raise OutputError(
            f"{output} lies where input {config.input!r} is read from, so the next start would read it too; "
            "choose another directory"
        )


def _refuse_another_run(output: str, run: RunDirectory, print_now: dict[str, Any]) -> None:
    changed = differences(run.manifest.fingerprint, print_now)
    if changed:
        shown = "; ".join(changed[:8]) + ("; …" if len(changed) > 8 else "")
        raise OutputError(
            f"output {output!r} belongs to another run; choose another directory, or --fresh. Changed: {shown}"
        )


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: package_version(name) for name in PACKAGES}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
