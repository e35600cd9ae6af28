"""How a training of any recipe runs, and the folder that it writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from placerec.errors import NoRoom, UsageError
from placerec.runtime import DEFAULT_RUNTIME, Runtime
from placerec.training.checkpoint import CHECKPOINT
from placerec.training.journal import Say

LOGGED_EVERY = 10  # steps
SAVED_EVERY = 50  # steps; some seconds on a GPU, ten minutes on two cores
RECENT = 100  # losses that a checkpoint keeps


@dataclass(frozen=True, slots=True)
class Options:
    """How a training runs; its schedule is what it learns.

    ``resume`` continues the run in the folder. ``cached`` keeps the frozen features of the recipe
    ``published`` on disk. A checkpoint is written every ``saved_every`` steps. ``say`` is called
    with each message. The precision is that of the schedule, not of ``runtime``.
    """

    runtime: Runtime = DEFAULT_RUNTIME
    resume: bool = False
    cached: bool = True
    saved_every: int = SAVED_EVERY
    say: Say = lambda _: None


DEFAULT_OPTIONS = Options()


def holds_run(folder: Path, options: Options) -> bool:
    """Whether ``folder`` holds a run that is to be continued.

    Raises ``UsageError`` if it holds one and ``options`` do not say so.
    """
    holds = (folder / CHECKPOINT).is_file()
    if holds and not options.resume:
        raise UsageError(
            f"{folder}: this folder already holds a run; set resume to continue it, or use "
            f"another folder"
        )
    return holds


def make_folder(folder: Path) -> None:
    """Create the folder of a run; raise ``NoRoom`` if that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NoRoom(folder, error.strerror or str(error)) from error
