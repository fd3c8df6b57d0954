"""Rows per second against cells: how far from linear, and what limits them.

The number of rows per cell is always the same, in shards of the size that a run would choose. Rates are measured while
all cells are full, because a real run fills and empties once in hours or days.
"""

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from actors.cluster.session import cluster
from jobs.simulate.costs import Costs
from jobs.simulate.graph import ClusterRun, measure_shard_s, simulate_cluster
from pipeline.config.align import AlignConfig
from pipeline.dataset.columns import check_columns
from pipeline.dataset.plan import plan_input
from pipeline.storage import locate

PROMPT = "prompt number {} " + "tell me something about it "


@dataclass(frozen=True, slots=True)
class Workload:
    """What every cell works on. The fakes' reward is a share of vowels: half of the segments have 3 in 16 letters."""

    rows_per_cell: int = 2048
    max_new_tokens: int = 128
    segment_size: int = 16
    reward_threshold: float = 3 / 16
    slots: int = 64
    rows_per_shard: int | None = None

    def config(self, costs: Costs, cells: int, folder: Path) -> AlignConfig:
        strategy = {"name": "stars", "segment_size": self.segment_size, "reward_threshold": self.reward_threshold}
        return AlignConfig.model_validate(
            {
                "input": str(folder / f"prompts-{cells}.parquet"),
                "output": str(folder / f"out-{cells}"),
                **costs.sections(),
                "generation": {"max_new_tokens": self.max_new_tokens},
                "strategy": strategy | {"alpha": 1.0, "beta": 0.0},
                "engine": {"slots": self.slots, "max_model_len": 512},
                "cluster": {"cells": cells},
                "dataset": {"rows_per_shard": self.rows_per_shard},
            }
        )


@dataclass(frozen=True, slots=True)
class Point:
    """One number of cells. `linear_fraction` is its rate per cell over that of the smallest number of cells;
    `graph_busy` is the share of time in which the graph worked: at 1 the graph is the limit."""

    cells: int
    rows_per_s: float
    linear_fraction: float
    rows_per_shard: int
    shard_s: float
    graph_busy: float
    first_row_s: float
    policy_busy: float
    reward_busy: float
    num_late: int


def run_study(costs: Costs, workload: Workload, cells: list[int], console: Console) -> list[Point]:
    """One point per number of cells, the smallest first."""
    points: list[Point] = []
    with tempfile.TemporaryDirectory(prefix="stars-simulation-") as folder, cluster():
        for number in sorted(cells):
            point = _measure(costs, workload, number, Path(folder), points)
            points.append(point)
            console.print(_line(point), highlight=False, soft_wrap=True)
    return points


def _measure(costs: Costs, workload: Workload, cells: int, folder: Path, points: list[Point]) -> Point:
    config = workload.config(costs, cells, folder)
    _write_prompts(Path(config.input), cells * workload.rows_per_cell)
    plan = plan_input(config.input, config.dataset.rows_per_shard, None, cells)
    columns, output = check_columns(plan.schema, config), locate(config.output)
    shard_s = measure_shard_s(config, plan, columns, output / "instant")
    run = simulate_cluster(config, plan, columns, output / "simulated", shard_s, costs.hop_ms / 1000)
    per_cell = points[0].rows_per_s / points[0].cells if points else run.rows_per_s / cells
    return Point(
        cells=cells,
        rows_per_s=run.rows_per_s,
        linear_fraction=run.rows_per_s / cells / per_cell,
        rows_per_shard=plan.rows_per_shard,
        shard_s=shard_s,
        graph_busy=run.rows_per_s / plan.rows_per_shard * shard_s,
        first_row_s=run.first_row_s,
        policy_busy=_mean_busy(run, "policy"),
        reward_busy=_mean_busy(run, "reward"),
        num_late=run.num_late,
    )


def _line(p: Point) -> str:
    return (
        f"{p.cells} cells: {p.rows_per_s:,.1f} rows/s, {p.linear_fraction:.3f} of linear; the graph takes "
        f"{1000 * p.shard_s:.0f} ms a shard of {p.rows_per_shard} rows, busy {p.graph_busy:.0%}; {p.num_late} late"
    )


def _mean_busy(run: ClusterRun, role: str) -> float:
    return sum(getattr(usage, role).busy_fraction for usage in run.usages) / len(run.usages)


def _write_prompts(path: Path, num_rows: int) -> None:
    prompts = [(PROMPT.format(i) * (1 + i % 4)) for i in range(num_rows)]
    pq.write_table(pa.table({"id": range(num_rows), "prompt": prompts}), path, row_group_size=10_000)


def study_table(points: list[Point]) -> Table:
    """The points as a table."""
    table = Table(title="rows/s against cells, on virtual time")
    for name in ("cells", "rows/s", "of linear", "rows per shard", "graph ms/shard", "graph busy", "policy", "reward"):
        table.add_column(name, justify="right")
    for p in points:
        shares = (f"{p.graph_busy:.0%}", f"{p.policy_busy:.0%}", f"{p.reward_busy:.0%}")
        sizes = (f"{p.rows_per_s:,.1f}", f"{p.linear_fraction:.3f}", f"{p.rows_per_shard:,}", f"{1000 * p.shard_s:.0f}")
        table.add_row(str(p.cells), *sizes, *shares)
    return table


def study_record(costs: Costs, workload: Workload, points: list[Point]) -> dict[str, Any]:
    """Everything, as it is written to JSON."""
    return {"costs": asdict(costs), "workload": asdict(workload), "points": [asdict(point) for point in points]}


def draw_study(workload: Workload, points: list[Point], path: Path) -> None:
    """Rows per second over cells: simulated, linear, and the graph's limit, with shards of the sizes that were run and
    with all as small as the first."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    cells = [p.cells for p in points]
    per_cell = points[0].rows_per_s / points[0].cells
    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    axes.plot(cells, [n * per_cell for n in cells], color="#8c8c8c", linestyle="--", label="linear")
    bounds = [p.rows_per_shard / p.shard_s for p in points]
    axes.plot(cells, bounds, color="#dd8452", linestyle=":", marker=".", label="the graph's limit")
    axes.axhline(bounds[0], color="#dd8452", linewidth=0.8, label=f"with {points[0].rows_per_shard} rows a shard")
    axes.plot(cells, [p.rows_per_s for p in points], color="#2a7f62", marker="o", label="simulated")
    for p in points:
        axes.annotate(f"{p.linear_fraction:.2f}", (p.cells, p.rows_per_s), (4, -12), textcoords="offset points")
    axes.set(xscale="log", yscale="log", xlabel="cells", ylabel="rows/s", xticks=cells, xticklabels=map(str, cells))
    axes.set_title(f"{workload.max_new_tokens} new tokens, {workload.slots} slots a cell")
    axes.minorticks_off()
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
