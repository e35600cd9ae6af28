"""The reports of a training: messages, ``log.csv``, and TensorBoard files if it is installed.

``log.csv`` has one row every few steps and one row after every epoch. With validation data, the
rows of epochs have its recalls, and epoch 0 is the start. A resumed run first removes the rows that
are newer than its checkpoint, so no step is logged twice.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from placerec.evaluation.scoring.metrics import RECALL_AT
from placerec.files import write_text

if TYPE_CHECKING:
    from placerec.training.checkpoint import Run

LOG, TENSORBOARD = "log.csv", "tensorboard"
RECALLS = tuple(f"recall@{n}" for n in RECALL_AT)
COLUMNS = ("epoch", "step", "seconds", "learning_rate", "loss", *RECALLS)
Say = Callable[[str], None]


class Journal:
    """The log of the run in ``folder``. Without a folder (not the first process) it is silent."""

    def __init__(self, folder: Path | None, run: Run, say: Say) -> None:
        self._folder, self._run, self._say = folder, run, say
        self._seconds_before, self._started = run.seconds, time.perf_counter()
        self._board: Any = None
        if folder is not None:
            _cut(folder / LOG, run.rows)
            self._board = _tensorboard(folder / TENSORBOARD, run.step, say)

    def steps(self, learning_rate: float, loss: float) -> None:
        """Log the mean ``loss`` of the last steps."""
        epoch = self._run.epoch + 1
        self._row(epoch, learning_rate, {"loss": loss})
        self.say(f"epoch {epoch}, step {self._run.step}: loss {loss:.4f}")

    def epoch(self, learning_rate: float, values: Mapping[str, float]) -> None:
        """Log the recalls and the loss, at the start (epoch 0) and after an epoch."""
        if not values:
            return
        self._row(self._run.epoch, learning_rate, values)
        message = "  ".join(f"{name} {value:.3f}" for name, value in values.items())
        self.say(f"after epoch {self._run.epoch}, step {self._run.step}: {message}")

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

    def _row(self, epoch: int, learning_rate: float, values: Mapping[str, float]) -> None:
        self.clock()
        run = self._run
        run.rows += 1
        if self._folder is None:
            return
        row = {
            "epoch": epoch, "step": run.step, "seconds": f"{run.seconds:.1f}",
            "learning_rate": f"{learning_rate:g}",
            **{name: f"{value:.6f}" for name, value in values.items()},
        }  # fmt: skip
        with (self._folder / LOG).open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(row)
        if self._board is not None:
            for name, value in {**values, "learning_rate": learning_rate}.items():
                self._board.add_scalar(name, value, run.step)


def _cut(path: Path, rows: int) -> None:
    """Keep the header and the first ``rows`` rows."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    write_text(path, "\n".join([",".join(COLUMNS), *lines[1 : rows + 1]]) + "\n")


def _tensorboard(folder: Path, step: int, say: Say) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        say("no TensorBoard files are written; to get them: pip install tensorboard")
        return None
    return SummaryWriter(str(folder), purge_step=step)
