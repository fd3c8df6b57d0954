"""The campaign's end: a table of what was struck and what was lost."""

from rich.table import Table

from jobs.chaos.campaign import Report
from jobs.chaos.faults import FAULTS


def report_table(report: Report) -> Table:
    """Faults by kind and how many were survived, that is, by a run whose output came out as the undisturbed one's."""
    total = report.total
    table = Table(
        title=f"{report.faults.total()} faults in {report.num_runs} runs, {report.num_restarts} starts over",
        caption=f"{total.num_rows:,} rows compared: {total.num_lost} lost, {total.num_duplicated} duplicated, "
        f"{total.num_different} different (in a bit of response, reward or segments), "
        f"{total.num_misplaced} out of order",
    )
    table.add_column("fault")
    for name in ("times", "in --retry-errors", "survived"):
        table.add_column(name, justify="right")
    for kind in FAULTS:
        counts = (report.faults[kind], report.faults_in_retry[kind], report.survived[kind])
        table.add_row(kind, *map(str, counts))
    return table
