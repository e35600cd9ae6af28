"""Progress bars for a person at a terminal, on stderr, so that stdout has only data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from placerec.runtime import Runtime


class _ProgressBars:
    """A progress callback that shows one bar per stage."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` items of ``stage`` are done."""
        if not self._tasks:
            self._bars.start()
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total)
        self._bars.update(self._tasks[stage], completed=done, total=total)


@contextmanager
def showing_progress(threads: int | None = None, device: str = "cpu") -> Iterator[Runtime]:
    """Yield a Runtime with progress bars, which end with the block."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TimeRemainingColumn())  # fmt: skip
    bars = Progress(*columns, console=Console(stderr=True))
    try:
        yield Runtime(threads=threads, device=device, progress=_ProgressBars(bars))
    finally:
        if bars.tasks:
            bars.stop()


@contextmanager
def progress_bars() -> Iterator[object]:
    """Yield a progress callback."""
    with showing_progress() as runtime:
        yield runtime.progress
