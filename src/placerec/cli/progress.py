"""Progress bars and lists for a person at a terminal; on stderr, so that stdout stays data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from placerec.errors import SKIPPED_PHOTOS_EXIT, PhotoError


class ProgressBars:
    """Calls of the library's progress hook as one bar a stage."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` items of ``stage`` are done."""
        if not self._tasks:
            self._progress.start()
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=total)
        self._progress.update(self._tasks[stage], completed=done, total=total)


@contextmanager
def progress_bars() -> Iterator[ProgressBars]:
    """Progress bars for the time of a block, from the first call on."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TimeRemainingColumn())  # fmt: skip
    progress = Progress(*columns, console=console)
    try:
        yield ProgressBars(progress)
    finally:
        if progress.tasks:
            progress.stop()


def list_skipped(skipped: Sequence[PhotoError | str]) -> int:
    """Print every skipped photo with its reason, one a line; returns the exit code."""
    if not skipped:
        return 0
    click.echo(f"skipped {len(skipped)} photo{'s' if len(skipped) > 1 else ''}:", err=True)
    for error in skipped:
        click.echo(f"  {error}", err=True)
    return SKIPPED_PHOTOS_EXIT
