"""The run directory: what a run left there, and whether this run may go on with it.

    out/part-00000.parquet …      the output, once it is gathered
    out/_run/config.yaml          the resolved config
    out/_run/manifest.json        fingerprint, versions, seed, status, times (`pipeline.runs.manifest`)
    out/_run/lease.json           the start that is at work (`pipeline.runs.lease`)
    out/_run/metrics.json         written when the run is finished
    out/_run/error.log            the traceback of the last start that failed
    out/_run/shards/              committed shards; deleted once gathered
    out/_run/retry/               error rows that are being redone (`pipeline.runs.retry`)
    out/_run/baseline/            the same, for the rows decoded plainly

Invariant: only the start that holds the lease writes here; what others left half written is removed by it alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import yaml

from pipeline.config.align import AlignConfig
from pipeline.config.decoding import Decoding
from pipeline.config.model import models_of, with_revisions
from pipeline.dataset.files import reads
from pipeline.dataset.parts import part_file, part_files
from pipeline.dataset.plan import InputPlan
from pipeline.dataset.shards import SHARD_NAME
from pipeline.errors import OutputError
from pipeline.runs.fingerprint import ROWS_PER_SHARD, Sources, differences, fingerprint
from pipeline.runs.lease import Lease, Report, held_lease
from pipeline.runs.manifest import Manifest, new_manifest, now, read_manifest
from pipeline.runs.outputs import StageOutput, stage_output
from pipeline.storage import TEMPORARY_PREFIX, Location, locate, temporary_prefix

JOB_FOLDER = "/runtime_resources/working_dir_files/"  # where Ray unpacks what `ray job submit` sends


@dataclass(frozen=True, slots=True)
class Stage:
    """One pass over the input: the aligned one, or the baseline; where its shards and its part files are, and
    where its error rows are redone."""

    name: str
    shards: Location
    parts: Location
    retry: Location


class RunDirectory:
    """One run's files, for a start that wants rows of this config and fingerprint. `manifest` is what is on disk, or
    what will be once the run is held.

    Raises:
        OutputError: the directory belongs to another run.
    """

    def __init__(self, root: Location, config: AlignConfig, fingerprint_now: dict[str, Any]) -> None:
        self.root = root
        self.config = config
        self.fingerprint_now = fingerprint_now
        self._lease: Lease | None = None
        self.manifest = self._found_manifest()

    @property
    def run(self) -> Location:
        return self.root / "_run"

    @property
    def metrics_file(self) -> Location:
        return self.run / "metrics.json"

    def kept_plan(self, plan: InputPlan) -> InputPlan:
        """The plan with the shards of the run's first start: another number of cells would cut the input otherwise."""
        return replace(plan, rows_per_shard=self.manifest.fingerprint[ROWS_PER_SHARD])

    def kept_config(self, config: AlignConfig) -> AlignConfig:
        """The config with what it leaves open as the run's first start found it: slots, `max_model_len`, commits."""
        found = {name: value for name, value in self.manifest.engine.items() if getattr(config.engine, name) is None}
        config = config.model_copy(update={"engine": config.engine.model_copy(update=found)})
        return with_revisions(config, self.manifest.commit_of)

    def keep(self, loaded: Decoding) -> None:
        """Write down what the first start found, for `kept_config`; later ones change nothing."""
        if not self.manifest.engine:
            models = zip(models_of(self.config), models_of(loaded), strict=True)
            commits = {asked.hub_name: found.revision for asked, found in models if asked.hub_name and found.revision}
            engine = {name: getattr(loaded.engine, name) for name in ("slots", "max_model_len")}
            self._save(replace(self.manifest, engine=engine, commits=commits))

    @property
    def is_finished(self) -> bool:
        return self.manifest.is_finished

    @property
    def aligned(self) -> Stage:
        return Stage("aligned", self.run / "shards", self.root, self.run / "retry")

    @property
    def baseline(self) -> Stage:
        parts = self.run / "baseline"
        return Stage("baseline", parts / "shards", parts, parts / "retry")

    def output(self, stage: Stage) -> StageOutput:
        """The rows of a stage; raises OutputError while it is not gathered."""
        return stage_output(self.manifest, stage.name, stage.parts)

    @property
    def error_log(self) -> Location:
        return self.run / "error.log"

    def write_error_log(self, text: str) -> None:
        """Keep the whole story of a failed run where its one line points to."""
        self.error_log.write_text(text)

    @contextmanager
    def held(self, report: Report) -> Iterator[None]:
        """Be the only start that writes to this run, until the block ends; `report` is told what a person waits for.

        Raises:
            OutputError: another start is at work, or has made another run of it, or it cannot be written.
        """
        with _as_output_error(self.config.output):
            self.run.create_directory()
        with held_lease(self.run / "lease.json", report) as self._lease:
            self.root = replace(self.root, writer=self._lease.holder.start)
            with _as_output_error(self.config.output):
                self._prepare()
            yield
            self._remove_temporaries(ours=True)

    def _prepare(self) -> None:
        self.manifest = self._found_manifest()
        self._remove_temporaries(ours=False)
        if not self.is_finished:
            self._save(self.manifest)
            text = yaml.safe_dump(self.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
            (self.run / "config.yaml").write_text(text)

    def check_lease(self) -> None:
        """Raises OutputError when another start has taken this run over, as far as the last heartbeat knows."""
        assert self._lease is not None, "the run must be held"
        self._lease.check()

    def mark_gathered(self, stage: Stage) -> None:
        """Record that the stage's output is whole, then let go of its shards."""
        if stage.name not in self.manifest.gathered:
            self._save(replace(self.manifest, gathered=(*self.manifest.gathered, stage.name)))
        stage.shards.delete_directory()

    def mark_finished(self) -> None:
        self._save(replace(self.manifest, status="finished", finished=now()))

    def reopen(self) -> None:
        """A finished run gets work again: whoever starts it next goes on with that."""
        if self.is_finished:
            self._save(replace(self.manifest, status="running", finished=None))

    def _save(self, manifest: Manifest) -> None:
        assert self._lease is not None, "the run must be held"
        self._lease.renew()
        self._lease.check()
        manifest.save(self.root)
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
            return cls(root, config, fingerprint(config, plan, sources))

    @classmethod
    def open(cls, config: AlignConfig, plan: InputPlan, sources: Sources) -> "RunDirectory":
        """The same, and it can be written to.

        Raises:
            OutputError: it cannot be written, or belongs to another run.
        """
        run = cls.find(config, plan, sources)
        if not run.is_finished:
            with _as_output_error(config.output):
                run.run.create_directory()
        return run

    def _found_manifest(self) -> Manifest:
        """That of a run with committed rows, if it is of the same fingerprint; else a new one. A run that failed before
        its first row stands in nobody's way."""
        found, wanted = read_manifest(self.root), self.fingerprint_now
        if found is None and (part_files(self.root) or self._has_shards()):
            raise OutputError(f"output {self.config.output!r} holds rows of something else; choose another directory")
        if found is None or not (found.is_finished or found.gathered or self._has_shards()):
            return new_manifest(wanted, self.config.seed)
        if self.config.dataset.rows_per_shard is None:
            wanted = wanted | {ROWS_PER_SHARD: found.fingerprint.get(ROWS_PER_SHARD)}
        changed = differences(found.fingerprint, wanted)
        if changed:
            shown = "; ".join(changed[:8]) + ("; …" if len(changed) > 8 else "")
            raise OutputError(
                f"output {self.config.output!r} belongs to another run; choose another directory, or --fresh. "
                f"Changed: {shown}"
            )
        return found

    def _has_shards(self) -> bool:
        stages = (self.aligned, self.baseline)
        return any(SHARD_NAME.fullmatch(name) for stage in stages for name in stage.shards.names())

    def _remove_temporaries(self, ours: bool) -> None:
        """Delete what starts that are dead left half written; or what tasks of this one did that were killed."""
        prefix = temporary_prefix(self.root.writer)
        stages = [self.aligned, self.baseline]
        folders = [self.run, *(f for s in stages for f in (s.parts, s.shards, s.retry, s.retry / "shards"))]
        for folder in folders:
            for name in folder.names():
                if name.startswith(TEMPORARY_PREFIX) and name.startswith(prefix) == ours:
                    with suppress(FileNotFoundError):  # its writer was alive after all
                        folder.filesystem.delete_file((folder / name).path)


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
