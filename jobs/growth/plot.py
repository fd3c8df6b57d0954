"""The growth measurement as a picture: memory of driver and coordinator, and rows done, over time."""

from pathlib import Path

from jobs.growth.growth_run import Sample

DRIVER, COORDINATOR, ROWS = "#2a7f62", "#dd8452", "#8c8c8c"


def draw_growth(samples: list[Sample], path: Path) -> None:
    """Write the picture as PNG. Where the rows stand still, the job is starting."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    minutes = [sample.second / 60 for sample in samples]
    figure, memory = pyplot.subplots(figsize=(7, 3))
    memory.plot(minutes, [s.driver_mb for s in samples], color=DRIVER, linewidth=1, label="driver")
    memory.plot(minutes, [s.coordinator_mb for s in samples], color=COORDINATOR, linewidth=1, label="coordinator")
    memory.set_xlabel("minutes")
    memory.set_ylabel("resident memory, MB")
    memory.set_ylim(bottom=0)
    memory.legend(loc="lower right")
    rows = memory.twinx()
    rows.plot(minutes, [s.num_rows / 1000 for s in samples], color=ROWS, linestyle=":", linewidth=1)
    rows.set_ylabel("thousand rows committed (dotted)")
    rows.set_ylim(bottom=0)
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    pyplot.close(figure)
