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
    PointAndHeading,
    read_coordinates,
    with_exif,
    with_positions,
)
from placerec.evaluation.layouts.msls import TRAIN_CITIES, VALIDATION_CITIES, read_side
from placerec.evaluation.layouts.photo_lists import DATABASE, QUERIES, sides
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


def open_training_data(folder: Path) -> TrainingSet:
    """Return the training set in ``folder``, in any layout."""
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
    queries, database = (
        [read_side(folder, city, side, region) for region, city in enumerate(cities)]
        for side in ("query", "database")
    )
    weights = np.ones(sum(len(side.photos) for side in queries))
    for rare in ([side.night for side in queries], [side.sideways for side in queries]):
        chosen = np.concatenate(rare)
        if chosen.any():
            weights[chosen] += len(chosen) / np.count_nonzero(chosen)
    query_photos, database_photos = (
        replace(joined([side.photos for side in sides_of_cities]), headings=None)
        for sides_of_cities in (queries, database)
    )
    name = f"Mapillary SLS, {len(cities)} of {len(TRAIN_CITIES)} training cities"
    validates = any((root / city).is_dir() for city in VALIDATION_CITIES)
    validation = open_dataset(folder, "msls-val-all").searches if validates else ()
    return TrainingSet(name, query_photos, database_photos, weights, validation, "mapillary")


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
    if (root / COORDINATES).is_file():
        table = read_coordinates(root / COORDINATES)
        queries, database = (
            _listed_photos(root, {name: table[name] for name in table if name.startswith(side)})
            for side in (QUERIES, DATABASE)
        )
    else:
        queries, database = map(_placed, sides(root))
    return TrainingSet(folder.name, queries, database)


def _read_folder(folder: Path) -> TrainingSet:
    if (folder / COORDINATES).is_file():
        photos = _listed_photos(folder, read_coordinates(folder / COORDINATES))
    else:
        names = find_photos(folder)
        photos = _placed(Photos(tuple(names), tuple(folder / name for name in names)))
    return TrainingSet(folder.name, photos, photos)


def _placed(photos: Photos) -> Photos:
    """Return ``photos`` with the positions in their names or EXIF tags."""
    return with_utm(photos)[0] if has_utm(photos.paths[0]) else with_exif(photos)


def _listed_photos(folder: Path, table: dict[str, PointAndHeading]) -> Photos:
    """Return the photos that ``table`` lists, with its positions."""
    if not table:
        raise NotFound(folder / COORDINATES, "it lists no photo", "list the photos to train on")
    for name in table:
        if not (folder / name).is_file():
            raise NotFound(folder / name, f"no such photo, but {COORDINATES} lists it")
    names = tuple(sorted(table))
    return with_positions(Photos(names, tuple(folder / name for name in names)), table)


LAYOUTS: dict[str, Callable[[Path], TrainingSet]] = {
    "train_val/": _read_msls,
    "**/pitts30k_train.mat": _read_pittsburgh,
    "database/": _read_evaluation_format,
    f"{IMAGES}/database/": _read_evaluation_format,
    COORDINATES: _read_folder,
}
