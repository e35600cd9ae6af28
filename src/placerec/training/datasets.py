"""Training data on disk. A file or folder that only one layout has decides the layout:

* Mapillary SLS: ``train_val/CITY/{query,database}/``.
* Pittsburgh 30k: ``pitts30k_train.mat``, in the folder or below it.
* The evaluation format: ``database/`` and ``queries/``, in the folder or in ``images/train/``.
* Any folder of photos. Every photo is both a query and a database photo.

The last two read positions from ``coordinates.csv`` (names relative to the folder), or from file
names ``@UTM_east@UTM_north@...``, or from EXIF tags.

To add a layout, write one function and add one line to ``LAYOUTS``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from placerec.errors import NotFound
from placerec.evaluation.dataset import Photos, Search, joined
from placerec.evaluation.geometry import positions_of
from placerec.evaluation.layouts import open_dataset
from placerec.evaluation.layouts.coordinates import (
    COORDINATES,
    read_coordinates,
    with_exif,
    with_positions,
)
from placerec.evaluation.layouts.msls import TRAIN_CITIES, VALIDATION_CITIES, read_side
from placerec.evaluation.layouts.photo_lists import DATABASE, QUERIES, photos_below
from placerec.evaluation.layouts.utm_names import has_utm, with_utm
from placerec.photos.find import find_photos
from placerec.records import Array

IMAGES = "images/train"


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Queries and the database of their positives and negatives, with positions.

    With ``weights`` (Q,), queries are drawn with replacement, in proportion to their weights.
    Without, every query comes once per epoch, in random order. ``validation`` may be empty.
    ``preset`` names the usual schedule of the layout.
    """

    name: str
    queries: Photos
    database: Photos
    weights: Array | None = field(default=None, repr=False)
    validation: tuple[Search, ...] = field(default=(), repr=False)
    preset: str = "photos"

    @property
    def digest(self) -> str:
        """The sha256 (hex) of names and positions; a resumed run must have the same photos."""
        digest = hashlib.sha256()
        for photos in (self.queries, self.database):
            for path in photos.paths:
                digest.update(path.name.encode("utf-8", "surrogateescape") + b"\0")
            digest.update(np.ascontiguousarray(positions_of(photos)).tobytes())
        return digest.hexdigest()


def open_training_data(folder: str | Path) -> TrainingSet:
    """Return the training set in ``folder``, in any layout."""
    folder = Path(folder)
    if not folder.is_dir():
        raise NotFound(folder, "no such folder", "give the folder of the training data")
    for marker, read in LAYOUTS.items():
        if next(folder.glob(marker), None) is not None:
            return read(folder)
    if find_photos(folder):
        return _read_folder(folder)
    markers = ", ".join(LAYOUTS)
    raise NotFound(
        folder, f"no training data: it contains no photo and none of {markers}",
        "docs/TRAINING.md shows the layouts",
    )  # fmt: skip


def _read_msls(folder: Path) -> TrainingSet:
    """Read the training cities below ``folder/train_val`` as one set.

    Source: the published Patch-NetVLAD program. Night queries and queries that look sideways are
    rare, so they are drawn more often. The weight of a query is 1, plus Q / #night if it is a night
    query, plus Q / #sideways if it looks sideways. A positive may have any heading, as published.
    Each city has a separate map, so photos of different cities are never near each other.
    """
    root = folder / "train_val"
    cities = [city for city in TRAIN_CITIES if (root / city).is_dir()]
    if not cities:
        raise NotFound(
            root, f"it contains none of the {len(TRAIN_CITIES)} training cities",
            "unpack at least one",
        )  # fmt: skip
    query_sides, database_sides = (
        [read_side(folder, city, side, region) for region, city in enumerate(cities)]
        for side in ("query", "database")
    )
    queries, database = (
        replace(joined([side.photos for side in sides]), headings=None)
        for sides in (query_sides, database_sides)
    )
    weights = np.ones(len(queries))
    for rare in ([side.night for side in query_sides], [side.sideways for side in query_sides]):
        chosen = np.concatenate(rare)
        if chosen.any():
            weights[chosen] += len(chosen) / np.count_nonzero(chosen)
    name = f"Mapillary SLS, {len(cities)} of {len(TRAIN_CITIES)} training cities"
    validates = any((root / city).is_dir() for city in VALIDATION_CITIES)
    validation = open_dataset(folder, "msls-val-all").searches if validates else ()
    return TrainingSet(name, queries, database, weights, validation, "mapillary")


def _read_pittsburgh(folder: Path) -> TrainingSet:
    """Read ``pitts30k_train.mat``, and ``pitts30k_val.mat`` if it exists.

    Source: Arandjelovic et al., "NetVLAD", CVPR 2016.
    """
    (search,) = open_dataset(folder, "pitts30k-train").searches
    validates = next(folder.glob("**/pitts30k_val.mat"), None) is not None
    validation = open_dataset(folder, "pitts30k-val").searches if validates else ()
    return TrainingSet(
        "Pittsburgh 30k, training", search.queries, search.database, None, validation, "pittsburgh"
    )


def _read_evaluation_format(folder: Path) -> TrainingSet:
    root = folder if (folder / DATABASE).is_dir() else folder / IMAGES
    return TrainingSet(folder.name, _read_photos(root, QUERIES), _read_photos(root, DATABASE))


def _read_folder(folder: Path) -> TrainingSet:
    photos = _read_photos(folder)
    return TrainingSet(folder.name, photos, photos)


def _read_photos(root: Path, side: str = "") -> Photos:
    """Return the photos below ``side``, with positions of a table, of their names or EXIF tags."""
    source = root / COORDINATES
    if not source.is_file():
        photos = photos_below(root, side)
        return with_utm(photos)[0] if has_utm(photos.paths[0]) else with_exif(photos)
    table = read_coordinates(source)
    names = tuple(sorted(name for name in table if name.startswith(side)))
    if not names:
        raise NotFound(source, "it lists no photo", "list the photos to train on")
    photos = Photos(names, tuple(root / name for name in names))
    for path in photos.paths:
        if not path.is_file():
            raise NotFound(path, f"no such photo, but {COORDINATES} lists it")
    return with_positions(photos, table)


LAYOUTS: dict[str, Callable[[Path], TrainingSet]] = {
    "train_val/": _read_msls,
    "**/pitts30k_train.mat": _read_pittsburgh,
    "database/": _read_evaluation_format,
    f"{IMAGES}/database/": _read_evaluation_format,
    COORDINATES: _read_folder,
}
