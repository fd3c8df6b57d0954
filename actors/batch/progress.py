"""Progress while the dataset runs: a bar on a terminal, plain lines anywhere else (`ray job logs`)."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from pipeline.runs.usage import CoordinatorUsage

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
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn())
        self.progress = Progress(*columns, TextColumn("{task.fields[figures]}", style="dim"), console=console)
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


@contextmanager
def shown_progress(
    console: Console, title: str, num_rows: int, num_rows_before: int, usage: Callable[[], CoordinatorUsage]
) -> Iterator[None]:
    """Show progress from another thread until the block ends; the last state is always shown.

    Args:
        usage: asks the monitor; called every few seconds.
    """
    view: View = BarView(console) if console.is_terminal else LineView(console)
    started_s, stopped = time.monotonic(), threading.Event()

    def show() -> None:
        view.show(Snapshot(title, num_rows, num_rows_before, time.monotonic() - started_s, usage()))

    def watch() -> None:
        show()
        while not stopped.wait(view.interval_s):
            show()

    thread = threading.Thread(target=watch, name="progress", daemon=True)
    thread.start()
    try:
        yield
        stopped.set()
        thread.join()
        show()
    finally:
        stopped.set()
        thread.join(LINE_INTERVAL_S)
        view.close()


def format_seconds(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{seconds:02d}s" if minutes else f"{seconds}s"
