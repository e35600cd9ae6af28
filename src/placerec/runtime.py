"""How a call runs, as opposed to what it computes: threads, device, progress."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from placerec.settings import require, whole_number

Progress = Callable[[str, int, int], None]
PRECISIONS = ("float32", "tf32", "float16")
DEVICE = re.compile(r"cpu|mps|cuda(:\d{1,3})?")
MOST_THREADS = 1024  # many more would take minutes to start and to end


def no_progress(stage: str, done: int, total: int) -> None:
    """Ignore a progress report: the stage, the items done, and the items in total."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """How a call runs. No result depends on ``threads`` or ``progress``.

    ``threads`` is the number of threads; ``None`` means all cores. ``device`` is ``cpu``, ``cuda``
    (or ``cuda:1``) or ``mps``. ``progress`` is a callback with the stage, the items done, and the
    items in total. ``precision`` is that of a GPU. ``float32``: all of it. ``tf32``: convolutions
    are faster and keep three decimal digits. ``float16``: convolutions as in ``tf32``, and patches
    are compared as float16, with float32 sums. A training has its own (``Schedule``).

    Raises ``UsageError`` for another device or precision, for ``tf32`` or ``float16`` without a
    GPU, and for a number of threads that is not 0 (all cores) to 1024.
    """

    threads: int | None = None
    device: str = "cpu"
    progress: Progress = no_progress
    precision: str = "float32"

    def __post_init__(self) -> None:
        threads = 0 if self.threads is None else whole_number(self.threads)
        allowed = threads is not None and 0 <= threads <= MOST_THREADS
        require(allowed, f"threads {self.threads!r}", f"at most {MOST_THREADS}, or 0 for all cores")
        valid = isinstance(self.device, str) and DEVICE.fullmatch(self.device) is not None
        require(valid, "device", f"cpu, cuda, cuda:1 or mps, not {self.device!r:.60}")
        require(callable(self.progress), "progress", "a function of stage, done and total")
        require(self.precision in PRECISIONS, "precision", " or ".join(PRECISIONS))
        on_gpu = self.precision == "float32" or self.on_gpu
        require(on_gpu, f"precision {self.precision}", "used with device cuda")

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device != "cpu"

    @property
    def cores(self) -> int:
        """The number of threads to use: ``threads``, or the cores that this process may use."""
        if self.threads is None and hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return self.threads or os.cpu_count() or 1

    @property
    def one_thread(self) -> Runtime:
        """The same for a trunk that describes one photo per thread, several photos at a time."""
        return replace(self, threads=1)


DEFAULT_RUNTIME = Runtime()


def require_runtime(runtime: object) -> None:
    """Raise ``UsageError`` unless ``runtime`` is a ``Runtime``."""
    require(isinstance(runtime, Runtime), "runtime", f"a Runtime, not {runtime!r:.60}")
