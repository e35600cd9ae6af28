"""Photos that stand both among the queries and in the database, or nearly so.

A query that is in the database finds itself, and recall measures nothing. Three comparisons, the
first that holds is told:

* ``file``: equal bytes (sha256);
* ``pixels``: equal pictures once decoded, such as after a tag was added or a lossless conversion;
* ``near``: the same picture encoded anew or scaled. Photos are shrunk to 16 x 16 grey values, whose
  correlation is compared. Light may differ as a whole; a step of the camera, another day or
  another car in front does change the correlation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from placerec.baselines.contract import Progress
from placerec.errors import NotFound, PhotoError
from placerec.evaluation.dataset import Dataset, Photos
from placerec.photos.decode import decode
from placerec.records import Array
from placerec.runtime import available_threads
from placerec.workers import map_in_order, single_threaded_blas

SIDE = 16  # cells of the shrunk photo, each way
# Measured on gsv_cambridge_test, corridor and amos_day_night: encoded anew (JPEG quality 30 to 85)
# at half to 1.3 times the size, photos stay above .992; different photos of one place reach .93,
# neighbouring frames of the corridor .988. Photos of one fixed camera reach .999, and are told too.
NEAR = 0.99
FLAT = 2.0  # grey levels of spread below which a photo shows nothing to compare
BLOCK = 1024  # queries compared at once: 40 MB against 10000 photos


@dataclass(frozen=True, slots=True)
class Leak:
    """A query with the database photo that is the same; ``alike`` is their correlation."""

    search: str
    query: str
    database: str
    kind: str  # "file", "pixels" or "near"
    alike: float


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is kept of n photos; ``cells`` (n, 256) float32 of unit length, or 0 where flat."""

    files: list[str]
    pixels: list[str]
    cells: Array = field(repr=False)


def leaks(
    dataset: Dataset, progress: Progress = lambda *_: None, threads: int | None = None
) -> list[Leak]:
    """For every query that is also in its database, the database photo that is most the same.

    Photos that cannot be decoded are left out; an evaluation skips and names them.
    """
    found: list[Leak] = []
    for search in dataset.searches:
        threads = threads or available_threads()
        queries = _look(search.queries, f"{search.name}: queries", progress, threads)
        database = _look(search.database, f"{search.name}: database", progress, threads)
        found += [
            Leak(search.name, search.queries.names[q], search.database.names[d], kind, alike)
            for q, d, kind, alike in _compare(queries, database)
        ]
    return found


def _look(photos: Photos, stage: str, progress: Progress, threads: int) -> _Seen:
    files, pixels = [], []
    cells = np.zeros((len(photos), SIDE * SIDE), np.float32)
    for number, seen in enumerate(map_in_order(_of_file, photos.paths, threads)):
        files.append(seen[0])
        pixels.append(seen[1])
        cells[number] = seen[2]
        progress(stage, number + 1, len(photos))
    return _Seen(files, pixels, cells)


def _of_file(path: Path) -> tuple[str, str, Array]:
    try:
        photo = decode(path)
    except (PhotoError, NotFound):
        return "", "", np.zeros(SIDE * SIDE, np.float32)
    shown = hashlib.sha256(repr(photo.pixels.shape).encode("ascii"))
    shown.update(photo.pixels.data)
    return photo.sha256, shown.hexdigest(), _cells(photo.pixels)


def _cells(pixels: Array) -> Array:
    """Mean grey values of 16 x 16 cells (256,) float32, their mean taken off, of unit length."""
    grey = Image.fromarray(pixels).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    cells = np.asarray(grey, np.float32).ravel()
    cells -= cells.mean()
    if cells.std() < FLAT:
        return np.zeros_like(cells)
    unit: Array = cells / np.linalg.norm(cells)
    return unit


def _compare(queries: _Seen, database: _Seen) -> Iterator[tuple[int, int, str, float]]:
    same_file, same_pixels = _first(database.files), _first(database.pixels)
    for start in range(0, len(queries.files), BLOCK):
        with single_threaded_blas():
            alike = queries.cells[start : start + BLOCK] @ database.cells.T
        best = alike.argmax(axis=1)
        for row, near in enumerate(best.tolist()):
            query = start + row
            if queries.files[query] in same_file:
                yield query, same_file[queries.files[query]], "file", 1.0
            elif queries.pixels[query] in same_pixels:
                yield query, same_pixels[queries.pixels[query]], "pixels", 1.0
            elif alike[row, near] >= NEAR:
                yield query, near, "near", float(alike[row, near])


def _first(hashes: Sequence[str]) -> dict[str, int]:
    """The first photo of each hash; a photo that could not be decoded has none."""
    numbers: dict[str, int] = {}
    for number, one in enumerate(hashes):
        if one:
            numbers.setdefault(one, number)
    return numbers
