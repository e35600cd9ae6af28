"""The reports of a training: messages, ``log.csv``, and TensorBoard files if it is installed.

``log.csv`` has one row every few steps, and further rows that the recipe adds. A resumed run first
removes the rows that are newer than its checkpoint, so no step is logged twice.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from placerec.files import write_text

if TYPE_CHECKING:
    from placerec.training.checkpoint import Run

LOG, TENSORBOARD = "log.csv", "tensorboard"
COUNTED = ("step", "seconds")  # the columns that the journal fills itself
Say = Callable[[str], None]


class Journal:
    """The log of the run in ``folder`` with these ``columns``, among them ``COUNTED``.

    Without a folder (not the first process) it is silent.
    """

    def __init__(self, folder: Path | None, run: Run, say: Say, columns: Sequence[str]) -> None:
        self._folder, self._run, self._say, self._columns = folder, run, say, columns
        self._seconds_before, self._started = run.seconds, time.perf_counter()
        self._board: Any = None
        if folder is not None:
            _cut(folder / LOG, columns, run.rows)
            self._board = _tensorboard(folder / TENSORBOARD, run.step, say)

    def row(self, values: Mapping[str, float], message: str) -> None:
        """Log the values of some columns at this step, and report ``message``."""
        self.clock()
        run = self._run
        run.rows += 1
        if self._folder is None:
            return
        row = {"step": run.step, "seconds": f"{run.seconds:.1f}"}
        row |= {name: f"{value:.6g}" for name, value in values.items()}
        with (self._folder / LOG).open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._columns, lineterminator="\n").writerow(row)
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, run.step)
        self._say(message)

    def say(self, line: str) -> None:
        """Call the user's callback, in the first process only."""
        if self._folder is not None:
            self._say(line)

    def clock(self) -> None:
        """Update the seconds of the run, which add up over its resumed parts."""
        self._run.seconds = self._seconds_before + time.perf_counter() - self._started

    def close(self) -> None:
        """Close the TensorBoard file."""
        if self._board is not None:
            self._board.close()


def _cut(path: Path, columns: Sequence[str], rows: int) -> None:
    """Keep the header and the first ``rows`` rows."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    write_text(path, "\n".join([",".join(columns), *lines[1 : rows + 1]]) + "\n")


def _tensorboard(folder: Path, step: int, say: Say) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        say("no TensorBoard files are written; to get them: pip install tensorboard")
        return None
    return SummaryWriter(str(folder), purge_step=step)
