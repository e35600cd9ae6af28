"""Training data on disk: four layouts, told apart by a file or folder that only they have.

* Mapillary SLS: ``train_val/CITY/{query,database}/`` (``msls``).
* Pittsburgh 30k: ``pitts30k_train.mat`` (``pittsburgh``).
* The evaluation format: ``database/``, ``queries/`` and ``coordinates.csv``.
* Any folder with ``coordinates.csv`` (image,latitude,longitude[,heading], image relative to the
  folder): its photos are database and queries at once.

Adding a layout is one file and one line in ``LAYOUTS``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from placerec.errors import NotFound
from placerec.evaluation.dataset import read_dataset
from placerec.photos.position import read_positions
from placerec.records import Position
from placerec.training.msls import read_msls
from placerec.training.pittsburgh import read_pittsburgh
from placerec.training.places import PlacePhotos, Search, TrainingSet, on_the_sphere

COORDINATES = "coordinates.csv"


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
    raise NotFound(
        folder, f"no training data (none of {', '.join(LAYOUTS)} is in it)",
        "docs/TRAINING.md shows the layouts",
    )  # fmt: skip


def validation_folder(
    folder: Path, queries_list: Path | None = None, half: str | None = None
) -> tuple[Search, ...]:
    """A folder in the evaluation format as one search; arguments as in ``read_dataset``."""
    dataset = read_dataset(folder, None, queries_list, half)
    number = {name: n for n, name in enumerate(dataset.database)}
    return (
        Search(
            folder.name,
            tuple(dataset.queries_folder / name for name in dataset.queries),
            tuple(dataset.database_folder / name for name in dataset.database),
            tuple(
                frozenset(number[name] for name in dataset.positives[query])
                for query in dataset.queries
            ),
        ),
    )


def _read_folder(folder: Path) -> tuple[TrainingSet, tuple[Search, ...]]:
    photos = _placed(folder, read_positions(folder / COORDINATES))
    return TrainingSet(folder.name, photos, photos), ()


def _read_evaluation_format(folder: Path) -> tuple[TrainingSet, tuple[Search, ...]]:
    positions = read_positions(folder / COORDINATES)
    queries, database = (
        _placed(folder, {name: at for name, at in positions.items() if name.startswith(part)})
        for part in ("queries/", "database/")
    )
    return TrainingSet(folder.name, queries, database), ()


def _placed(folder: Path, positions: dict[str, Position]) -> PlacePhotos:
    if not positions:
        raise NotFound(folder / COORDINATES, "it lists no photo", "list the photos to train on")
    for name in positions:
        if not (folder / name).is_file():
            raise NotFound(folder / name, f"no such photo, but {COORDINATES} lists it")
    ordered = sorted(positions)
    headings = [positions[name].heading for name in ordered]
    return PlacePhotos(
        tuple(folder / name for name in ordered),
        on_the_sphere([positions[name] for name in ordered]),
        np.array([np.nan if heading is None else heading for heading in headings]),
    )


Reader = Callable[[Path], tuple[TrainingSet, tuple[Search, ...]]]
LAYOUTS: dict[str, tuple[Reader, str]] = {
    "train_val/": (read_msls, "mapillary"),
    "**/pitts30k_train.mat": (read_pittsburgh, "pittsburgh"),
    "database/": (_read_evaluation_format, "photos"),
    COORDINATES: (_read_folder, "photos"),
}
