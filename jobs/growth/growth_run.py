"""How a long run grows: memory of driver and coordinator over time, rows per second, and how soon a run resumes.

The job runs on fake models that cost nothing, so this measures everything around the models. The job is killed at half,
started again, and started once more when it is finished. `jobs.growth.plot` draws the samples.
"""

import csv
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.table import Table

from jobs.started_job import JobFailed, StartedJob
from pipeline.dataset.plan import default_rows_per_shard
from pipeline.dataset.shards import committed_shards
from pipeline.storage import locate

COORDINATOR = "ray::MapWorker(MapBatches(AlignShards"
GROUP_ROWS = 50_000
CONFIG = """
policy: {backend: fake}
reward: {backend: fake}
strategy: {name: stars, reward_threshold: 0.3, segment_size: 16, proposals_per_round: 1}
generation: {max_new_tokens: 32}
engine: {slots: 256, max_model_len: 256}
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """A running job at one moment. `num_rows` counts rows in committed shards; it stays once those are gathered."""

    second: float
    num_rows: int
    driver_mb: float
    coordinator_mb: float


class GrowthRun:
    """One output directory, whose job is started, killed and started again.

    Args:
        folder: for the input, the output, the log and `samples.csv`.
        num_rows: rows of the input, at least two shards of them.
        rows_per_shard: rows committed together; None: as many as the main job would choose.
        overrides: keys of the job's config, over CONFIG.
        interval_s: between two samples.
    """

    def __init__(
        self,
        folder: Path,
        num_rows: int,
        rows_per_shard: int | None = None,
        overrides: Sequence[str] = (),
        interval_s: float = 1.0,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.num_rows = num_rows
        self.rows_per_shard = rows_per_shard or default_rows_per_shard(num_rows)
        self.overrides = overrides
        self.interval_s = interval_s
        self.samples: list[Sample] = []

    def measure(self) -> Table:
        """Do all of it; `samples.csv` keeps what a plot needs.

        Raises:
            JobFailed: the job failed, or finished before it could be killed at half.
        """
        _write_prompts(self.folder / "in.parquet", self.num_rows)
        (self.folder / "job.yaml").write_text(CONFIG)
        at_0_s = self._run_until(self.num_rows // 2)
        half = self.samples[-1].num_rows
        at_50_s = self._run_until(None)
        started_s = time.monotonic()
        with self._job() as job:
            job.finish()
        at_100_s = time.monotonic() - started_s
        with (self.folder / "samples.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(Sample.__dataclass_fields__)
            writer.writerows([s.second, s.num_rows, s.driver_mb, s.coordinator_mb] for s in self.samples)
        return self._table(at_0_s, at_50_s, at_100_s, half)

    def _run_until(self, num_rows: int | None) -> float:
        """Start the job and kill it once `num_rows` rows are committed; None: let it finish. Returns the seconds until
        its first new shard is committed."""
        before, started_s, first_s = self._num_committed(), time.monotonic(), 0.0
        offset_s = self.samples[-1].second if self.samples else 0.0
        with self._job() as job:
            while job.exit_code is None:
                time.sleep(self.interval_s)
                elapsed_s = time.monotonic() - started_s
                committed = max(self._num_committed(), self.samples[-1].num_rows if self.samples else 0)
                if committed > before and not first_s:
                    first_s = elapsed_s
                memory = _memory_mb(job.pid), sum(map(_memory_mb, _coordinators(job.pid)))
                self.samples.append(Sample(offset_s + elapsed_s, committed, *memory))
                if num_rows is not None and committed >= num_rows:
                    break
            else:
                job.finish()
                if num_rows is not None:
                    raise JobFailed(f"the job finished before {num_rows:,} committed rows were seen; give it more rows")
        return first_s

    def _num_committed(self) -> int:
        """Rows of committed shards; none once they are gathered."""
        num_shards = len(committed_shards(locate(str(self.folder / "out/_run/shards"))))
        return min(self.num_rows, num_shards * self.rows_per_shard)  # the last shard may be shorter

    def _job(self) -> StartedJob:
        config = ["--config", str(self.folder / "job.yaml"), f"dataset.rows_per_shard={self.rows_per_shard}"]
        files = [f"input={self.folder}/in.parquet", f"output={self.folder}/out"]
        return StartedJob([*config, *files, *self.overrides], self.folder / "job.log")

    def _table(self, at_0_s: float, at_50_s: float, at_100_s: float, half: int) -> Table:
        table = Table(title=f"{self.num_rows:,} rows on fake models, {self.rows_per_shard} rows per shard")
        table.add_column("measured")
        table.add_column("figure", justify="right")
        for number, samples in enumerate((self._working(0, half), self._working(half, self.num_rows)), start=1):
            if len(samples) > 1:
                first, last = samples[0], samples[-1]
                rate = (last.num_rows - first.num_rows) / (last.second - first.second)
                table.add_row(f"start {number}: rows/s while rows are done", f"{rate:,.0f}")
                for name in ("driver_mb", "coordinator_mb"):
                    values = [f"{value:,.0f}" for value in _most_by_quarter([getattr(s, name) for s in samples])]
                    table.add_row(f"start {number}: most {name} in each quarter of its time", " / ".join(values))
        table.add_row("seconds to the first new shard, nothing done", f"{at_0_s:.1f}")
        table.add_row(f"seconds to the first new shard, {half / self.num_rows:.0%} done", f"{at_50_s:.1f}")
        table.add_row("seconds to the end, all done", f"{at_100_s:.1f}")
        return table

    def _working(self, above: int, most: int) -> list[Sample]:
        """Samples between the first and the last committed row of one start."""
        return [s for s in self.samples if above < s.num_rows <= most and s.coordinator_mb]


def _most_by_quarter(values: list[float]) -> list[float]:
    bounds = [len(values) * i // 4 for i in range(5)]
    return [max(values[first : max(end, first + 1)]) for first, end in pairwise(bounds)]


def _write_prompts(path: Path, num_rows: int) -> None:
    schema = pa.schema([("id", pa.int64()), ("prompt", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        for first in range(0, num_rows, GROUP_ROWS):
            ids = range(first, min(num_rows, first + GROUP_ROWS))
            writer.write_table(pa.table([ids, [f"prompt number {i}" for i in ids]], schema=schema))


def _coordinators(driver_pid: int) -> list[int]:
    """Coordinators on this machine that belong to the driver's own cluster: descendants of the driver."""
    pids = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and (process / "cmdline").read_text().startswith(COORDINATOR):
                pids.append(int(process.name))
        except OSError:
            continue
    return [pid for pid in pids if driver_pid in _ancestors(pid)]


def _ancestors(pid: int) -> list[int]:
    ancestors = []
    while pid > 1:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
        ancestors.append(pid)
    return ancestors


def _memory_mb(pid: int) -> float:
    """Resident memory without what is shared with others, such as Ray's object store."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()
    except OSError:
        return 0.0
    return (int(pages[1]) - int(pages[2])) * os.sysconf("SC_PAGE_SIZE") / 1e6
