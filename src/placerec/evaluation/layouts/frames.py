"""Two passes along one route: the frames near the number of a query are its positives.

The frame is the last number in a file name. Photos are in ``database/`` and ``queries/``.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from placerec.errors import Damaged, UsageError
from placerec.evaluation.dataset import Dataset, Photos, Protocol, Search
from placerec.evaluation.layouts.overrides import Overrides
from placerec.evaluation.layouts.photo_lists import sides
from placerec.records import Array


def read_frames(folder: Path, overrides: Overrides) -> Dataset:
    """Read the data set in ``folder``; the distance in frames decides."""
    if overrides.frames is None:
        raise UsageError("frames: give a number; published protocols use 1, 2, 7 and 10")
    queries, database = sides(folder)
    positives = windows(frame_numbers(queries), frame_numbers(database), overrides.frames)
    protocol = Protocol(
        overrides.protocol_name("frames", f"{overrides.frames} either side"),
        f"at most {overrides.frames} frames apart", overrides.panorama,
    )  # fmt: skip
    return Dataset(folder.name, protocol, (Search(folder.name, queries, database, positives),))


def frame_numbers(photos: Photos) -> Array:
    """Return the frames (n,) int64: the last number in each file name, without repetition."""
    paths: dict[int, Path] = {}
    for path in photos.paths:
        numbers = re.findall(r"\d+", path.stem, re.ASCII)
        if not numbers or len(numbers[-1]) > 18:
            raise Damaged(f"{path}: no frame number in its name; rename it, or remove it")
        first = paths.setdefault(int(numbers[-1]), path)
        if first != path:
            raise Damaged(f"{path}: the same frame number as {first}; rename one of them")
    return np.array(list(paths), np.int64)


def windows(queries: Array, database: Array, frames: int) -> tuple[frozenset[int], ...]:
    """Return for each query frame the rows of the database frames at most ``frames`` away."""
    order = np.argsort(database, kind="stable")
    ordered = database[order]
    first = np.searchsorted(ordered, queries - frames, side="left")
    last = np.searchsorted(ordered, queries + frames, side="right")
    return tuple(
        frozenset(order[a:b].tolist()) for a, b in zip(first.tolist(), last.tolist(), strict=True)
    )
