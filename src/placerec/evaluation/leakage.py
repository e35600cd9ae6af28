"""Find photos that are both a query and in the database, or nearly so.

A query that is in the database finds itself, so its recall has no meaning. There are three
comparisons, and the first one that matches is reported:

* ``file``: equal bytes (sha256);
* ``pixels``: equal pictures after decoding, for example after a lossless conversion;
* ``near``: the same picture, encoded again or scaled. Photos are reduced to 16 x 16 grey values,
  whose correlation is compared. The overall brightness may differ. A step of the camera, another
  day or another car in front changes the correlation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from placerec.errors import NotFound, PhotoError
from placerec.evaluation.dataset import Dataset, Photos
from placerec.photos.decode import decode
from placerec.records import Array
from placerec.runtime import DEFAULT_RUNTIME, Runtime
from placerec.workers import map_in_order, single_threaded_blas

SIDE = 16  # cells of a reduced photo, in each direction
# Measured on gsv_cambridge_test, corridor and amos_day_night: photos that are encoded again (JPEG
# quality 30 to 85) at 0.5 to 1.3 times the size stay above .992. Different photos of one place
# reach .93, neighbouring frames of the corridor .988. Photos of one fixed camera reach .999, and
# are reported too.
NEAR = 0.99
FLAT = 2.0  # grey levels; a photo with a smaller standard deviation has nothing to compare
BLOCK = 1024  # queries compared at the same time: 40 MB with 10000 photos


@dataclass(frozen=True, slots=True)
class Leak:
    """A query and the database photo that equals it; ``alike`` is their correlation."""

    search: str
    query: str
    database: str
    kind: str  # "file", "pixels" or "near"
    alike: float


@dataclass(frozen=True, slots=True)
class _Signature:
    """What is compared of a photo: two digests, empty if it cannot be decoded, and its cells.

    ``cells`` (256,) float32 have mean 0 and unit length, or are 0 if the photo is flat.
    """

    file: str
    pixels: str
    cells: Array


def leaks(dataset: Dataset, *, runtime: Runtime = DEFAULT_RUNTIME) -> list[Leak]:
    """Return, for every query that is also in its database, the most similar database photo.

    Photos that cannot be decoded are omitted; an evaluation lists them.
    """
    result: list[Leak] = []
    for search in dataset.searches:
        queries = _signatures(search.queries, f"{search.name}: queries", runtime)
        database = _signatures(search.database, f"{search.name}: database", runtime)
        result += [
            Leak(search.name, search.queries.names[query], search.database.names[row], kind, alike)
            for query, row, kind, alike in _matches(queries, database)
        ]
    return result


def _signatures(photos: Photos, stage: str, runtime: Runtime) -> list[_Signature]:
    signatures = []
    for signature in map_in_order(_signature, photos.paths, runtime.cores):
        signatures.append(signature)
        runtime.progress(stage, len(signatures), len(photos))
    return signatures


def _signature(path: Path) -> _Signature:
    try:
        photo = decode(path)
    except (PhotoError, NotFound):
        return _Signature("", "", np.zeros(SIDE * SIDE, np.float32))
    digest = hashlib.sha256(repr(photo.pixels.shape).encode("ascii"))
    digest.update(photo.pixels.data)
    return _Signature(photo.sha256, digest.hexdigest(), _cells(photo.pixels))


def _cells(pixels: Array) -> Array:
    grey = Image.fromarray(pixels).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    cells = np.asarray(grey, np.float32).ravel()
    cells -= cells.mean()
    if cells.std() < FLAT:
        return np.zeros_like(cells)
    unit: Array = cells / np.linalg.norm(cells)
    return unit


def _matches(
    queries: list[_Signature], database: list[_Signature]
) -> Iterator[tuple[int, int, str, float]]:
    """Yield the numbers of a query and its database photo, the kind, and the correlation."""
    rows = range(len(database) - 1, -1, -1)  # reversed, so that the first equal photo stays
    same_file = {database[row].file: row for row in rows}
    same_pixels = {database[row].pixels: row for row in rows}
    cells = np.stack([photo.cells for photo in database])
    for start in range(0, len(queries), BLOCK):
        block = queries[start : start + BLOCK]
        with single_threaded_blas():
            alike = np.stack([query.cells for query in block]) @ cells.T
        for number, (query, row) in enumerate(zip(block, alike.argmax(axis=1), strict=True)):
            if query.file and query.file in same_file:
                yield start + number, same_file[query.file], "file", 1.0
            elif query.pixels and query.pixels in same_pixels:
                yield start + number, same_pixels[query.pixels], "pixels", 1.0
            elif alike[number, row] >= NEAR:
                yield start + number, int(row), "near", float(alike[number, row])
