"""The end of a campaign: a table of the faults and of what they did."""

from rich.table import Table

from jobs.chaos.campaign import Report
from jobs.chaos.faults import FAULTS


def report_table(report: Report) -> Table:
    """Faults by kind; a fault is survived if its run's output is that of the undisturbed run, to the last bit."""
    table = Table(
        title=f"{report.faults.total()} faults in {report.num_runs} runs, started again {report.num_restarts} times",
        caption=str(report.total),
    )
    table.add_column("fault")
    for name in ("times", "in --retry-errors", "survived"):
        table.add_column(name, justify="right")
    for kind in FAULTS:
        counts = (report.faults[kind], report.faults_in_retry[kind], report.survived[kind])
        table.add_row(kind, *map(str, counts))
    return table
