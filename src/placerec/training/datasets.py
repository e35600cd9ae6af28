"""Training data on disk: four layouts, told apart by a file or folder that only they have.

* Mapillary SLS: ``train_val/CITY/{query,database}/`` (``msls``).
* Pittsburgh 30k: ``pitts30k_train.mat`` (``pittsburgh``).
* The evaluation format: ``database/`` and ``queries/``, or both in ``images/train/``.
* Any folder of photos: they are database and queries at once.

Positions of the last two are read as the evaluation reads them: from ``coordinates.csv`` (names
relative to the folder), else from file names ``@UTM_east@UTM_north@...``, else from EXIF tags.

Adding a layout is one file and one line in ``LAYOUTS``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from placerec.errors import NotFound
from placerec.evaluation.dataset import Photos, Search
from placerec.evaluation.layouts import open_dataset
from placerec.evaluation.layouts.coordinates import (
    COORDINATES,
    PointAndHeading,
    read_coordinates,
    with_positions,
)
from placerec.evaluation.layouts.exif import with_exif
from placerec.evaluation.layouts.photo_lists import DATABASE, QUERIES, sides
from placerec.evaluation.layouts.utm_names import has_utm, with_utm
from placerec.evaluation.query_lists import select_queries
from placerec.photos.find import find_photos
from placerec.training.msls import read_msls
from placerec.training.pittsburgh import read_pittsburgh
from placerec.training.sets import TrainingSet

IMAGES = "images/train"


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What a folder holds: the training set, its own validation (or none), its usual preset."""

    training: TrainingSet
    validation: tuple[Search, ...]
    preset: str


def open_training_data(folder: Path) -> TrainingData:
    """The training data in ``folder``, whatever its layout."""
    if not folder.is_dir():
        raise NotFound(folder, "no such folder", "give the folder of the training data")
    for marker, (read, preset) in LAYOUTS.items():
        if next(folder.glob(marker), None) is not None:
            training, validation = read(folder)
            return TrainingData(training, validation, preset)
    if find_photos(folder):
        return TrainingData(*_read_folder(folder), "photos")
    raise NotFound(
        folder, f"no training data (none of {', '.join(LAYOUTS)}, and no photo, is in it)",
        "docs/TRAINING.md shows the layouts",
    )  # fmt: skip


def validation_folder(
    folder: Path, queries_list: Path | None = None, half: str | None = None
) -> tuple[Search, ...]:
    """The data set in ``folder``, whatever its layout; the queries of a list as in ``lists``."""
    return select_queries(open_dataset(folder), queries_list, half).searches


def _read_folder(folder: Path) -> tuple[TrainingSet, tuple[Search, ...]]:
    if (folder / COORDINATES).is_file():
        photos = _of_table(folder, read_coordinates(folder / COORDINATES))
    else:
        names = find_photos(folder)
        photos = _placed(Photos(tuple(names), tuple(folder / name for name in names)))
    return TrainingSet(folder.name, photos, photos), ()


def _read_evaluation_format(folder: Path) -> tuple[TrainingSet, tuple[Search, ...]]:
    root = folder if (folder / DATABASE).is_dir() else folder / IMAGES
    if (root / COORDINATES).is_file():
        table = read_coordinates(root / COORDINATES)
        queries, database = (
            _of_table(root, {name: at for name, at in table.items() if name.startswith(part)})
            for part in (QUERIES, DATABASE)
        )
    else:
        queries, database = map(_placed, sides(root))
    return TrainingSet(folder.name, queries, database), ()


def _placed(photos: Photos) -> Photos:
    """Photos that say themselves where they were taken, in their names or in their tags."""
    return with_utm(photos)[0] if has_utm(photos.paths[0]) else with_exif(photos)


def _of_table(folder: Path, table: dict[str, PointAndHeading]) -> Photos:
    """The photos that a table lists."""
    if not table:
        raise NotFound(folder / COORDINATES, "it lists no photo", "list the photos to train on")
    for name in table:
        if not (folder / name).is_file():
            raise NotFound(folder / name, f"no such photo, but {COORDINATES} lists it")
    names = tuple(sorted(table))
    return with_positions(Photos(names, tuple(folder / name for name in names)), table)


Reader = Callable[[Path], tuple[TrainingSet, tuple[Search, ...]]]
LAYOUTS: dict[str, tuple[Reader, str]] = {
    "train_val/": (read_msls, "mapillary"),
    "**/pitts30k_train.mat": (read_pittsburgh, "pittsburgh"),
    "database/": (_read_evaluation_format, "photos"),
    f"{IMAGES}/database/": (_read_evaluation_format, "photos"),
    COORDINATES: (_read_folder, "photos"),
}
