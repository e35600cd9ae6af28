"""Two passes along one route: a query is answered by the frames near its own number.

The last number in a file name is its frame. Photos lie below ``database/`` and ``queries/``.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from placerec.errors import Damaged, UsageError
from placerec.evaluation.dataset import Dataset, Photos, Protocol, Search
from placerec.evaluation.layouts.folder import sides
from placerec.evaluation.layouts.overrides import Options
from placerec.records import Array


def read_frames(folder: Path, options: Options) -> Dataset:
    """The data set in ``folder``, judged by the distance in frames."""
    if options.frames is None:
        raise UsageError(
            "frames: say how many frames either side count; 1, 2 and 10 are all in use"
        )
    queries, database = sides(folder)
    positives = windows(frame_numbers(queries), frame_numbers(database), options.frames)
    protocol = Protocol(
        options.named("frames", f"{options.frames} either side"),
        f"at most {options.frames} frames apart", options.panorama,
    )  # fmt: skip
    return Dataset(folder.name, protocol, (Search(folder.name, queries, database, positives),))


def frame_numbers(photos: Photos) -> Array:
    """The frame (n,) int64 of each photo: the last number in its file name, each once."""
    numbers: dict[int, Path] = {}
    for path in photos.paths:
        found = re.findall(r"\d+", path.stem, re.ASCII)
        if not found or len(found[-1]) > 18:
            raise Damaged(f"{path}: no frame number in its name; rename it, or remove it")
        other = numbers.setdefault(int(found[-1]), path)
        if other != path:
            raise Damaged(f"{path}: the same frame number as {other}; rename one of them")
    return np.array(list(numbers), np.int64)


def windows(queries: Array, database: Array, frames: int) -> tuple[frozenset[int], ...]:
    """For each query frame the numbers of the database photos at most ``frames`` away."""
    order = np.argsort(database, kind="stable")
    ordered = database[order]
    first = np.searchsorted(ordered, queries - frames, side="left")
    last = np.searchsorted(ordered, queries + frames, side="right")
    return tuple(
        frozenset(order[a:b].tolist()) for a, b in zip(first.tolist(), last.tolist(), strict=True)
    )
