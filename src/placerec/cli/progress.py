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
from placerec.text import printable


@contextmanager
def showing_progress(threads: int | None = None, device: str = "cpu") -> Iterator[Runtime]:
    """Yield a Runtime with one progress bar per stage; the bars end with the block."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
               TimeRemainingColumn())  # fmt: skip
    bars = Progress(*columns, console=Console(stderr=True))
    tasks: dict[str, TaskID] = {}

    def show(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            bars.start()
            tasks[stage] = bars.add_task(printable(stage), total=total)
        bars.update(tasks[stage], completed=done, total=total)

    try:
        yield Runtime(threads=threads, device=device, progress=show)
    except BaseException:
        bars.live.transient = True  # the bars go away, and the message stands alone
        raise
    finally:
        if bars.tasks:
            bars.stop()
