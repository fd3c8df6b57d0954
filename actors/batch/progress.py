"""Progress while the dataset runs: a bar on a terminal, plain lines anywhere else (`ray job logs`)."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from rich import progress
from rich.console import Console

from pipeline.runs.usage import CoordinatorUsage

logger = logging.getLogger(__name__)
BAR_INTERVAL_S = 0.5
LINE_INTERVAL_S = 5.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How far a stage is. `num_rows_before` were committed by earlier starts."""

    title: str
    num_rows: int
    num_rows_before: int
    elapsed_s: float
    usage: CoordinatorUsage

    @property
    def num_rows_done(self) -> int:
        return min(self.num_rows, self.num_rows_before + self.usage.num_rows_done)

    @property
    def seconds_left(self) -> float | None:
        if not self.usage.num_rows_done:
            return None
        return self.elapsed_s / self.usage.num_rows_done * (self.num_rows - self.num_rows_done)

    def figures(self) -> str:
        """Everything but the count of prompts, as one phrase."""
        usage = self.usage
        left = "?" if self.seconds_left is None else format_seconds(self.seconds_left)
        tokens_per_s = usage.num_response_tokens / self.elapsed_s if self.elapsed_s else 0.0
        acceptance = f"{usage.acceptance_rate:.0%}" if usage.num_attempts else "–"
        return (
            f"{usage.num_segments:,} segments · {acceptance} accepted · {tokens_per_s:,.0f} accepted tokens/s · "
            f"{left} left"
        )


class View(Protocol):
    interval_s: float

    def show(self, snapshot: Snapshot) -> None: ...

    def close(self) -> None: ...


class LineView:
    """One line every few seconds."""

    interval_s = LINE_INTERVAL_S

    def __init__(self, console: Console) -> None:
        self.console = console

    def show(self, snapshot: Snapshot) -> None:
        done = f"{snapshot.num_rows_done:,}/{snapshot.num_rows:,} prompts"
        line = f"{snapshot.title}: {done} · {snapshot.figures()} · {format_seconds(snapshot.elapsed_s)} so far"
        self.console.print(line, highlight=False, soft_wrap=True)

    def close(self) -> None:
        pass


class BarView:
    """A bar that stays where it is."""

    interval_s = BAR_INTERVAL_S

    def __init__(self, console: Console) -> None:
        columns = (progress.TextColumn("{task.description}"), progress.BarColumn(20), progress.MofNCompleteColumn())
        figures = progress.TextColumn("{task.fields[figures]}", style="dim")
        self.progress = progress.Progress(*columns, figures, console=console)
        self.task = self.progress.add_task("", figures="")
        self.progress.start()

    def show(self, snapshot: Snapshot) -> None:
        self.progress.update(
            self.task,
            description=snapshot.title,
            total=snapshot.num_rows,
            completed=snapshot.num_rows_done,
            figures=snapshot.figures(),
        )

    def close(self) -> None:
        self.progress.stop()


class Progress:
    """What a person sees of a stage. A view that cannot be shown any more, such as one into a pipe that was closed, is
    dropped: the run goes on without it."""

    def __init__(self, console: Console, title: str, num_rows: int, num_rows_before: int) -> None:
        self.console = console
        self.title = title
        self.num_rows = num_rows
        self.num_rows_before = num_rows_before
        self.started_s = time.monotonic()
        self.shown_at_s = -math.inf
        self.view: View | None = BarView(console) if console.is_terminal else LineView(console)

    def report(self, line: str) -> None:
        """Print a line of its own."""
        self._try(lambda view: self.console.print(line, highlight=False, markup=False, soft_wrap=True))

    def show(self, usage: CoordinatorUsage, is_last: bool = False) -> None:
        """Show how far the stage is, if it is time to."""
        now_s = time.monotonic()
        if self.view is None or (now_s < self.shown_at_s + self.view.interval_s and not is_last):
            return
        self.shown_at_s = now_s
        snapshot = Snapshot(self.title, self.num_rows, self.num_rows_before, now_s - self.started_s, usage)
        self._try(lambda view: view.show(snapshot))

    def close(self) -> None:
        """End the view."""
        self._try(lambda view: view.close())

    def _try(self, action: Callable[[View], None]) -> None:
        if self.view is None:
            return
        try:
            action(self.view)
        except (Exception, SystemExit) as error:  # rich ends the process where its pipe is closed
            self.view = None
            logger.warning("progress is not shown any more: %s: %s", type(error).__name__, error)


def format_seconds(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{seconds:02d}s" if minutes else f"{seconds}s"
