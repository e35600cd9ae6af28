"""Pittsburgh 30k: photo lists and map coordinates from the ``dbStruct`` of its .mat files.

Source: Arandjelovic et al., "NetVLAD", CVPR 2016. ``pitts30k_train.mat`` (and
``pitts30k_val.mat``, which validates) lie in the data folder or below it, such as in
``datasets/``; database photos lie relative to the data folder (``000/...jpg``), queries relative to
its ``queries_real/``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from placerec.errors import Damaged, NotFound
from placerec.training.matlab import read_mat
from placerec.training.places import (
    PlacePhotos,
    Search,
    TrainingSet,
    neighbours,
    no_headings,
    on_the_map,
)

TRAINING, VALIDATION = "pitts30k_train.mat", "pitts30k_val.mat"
QUERIES = "queries_real"


def read_pittsburgh(folder: Path) -> tuple[TrainingSet, tuple[Search, ...]]:
    """The training set in ``folder``, and its validation set where that is there."""
    queries, database, _ = _read(folder, _find(folder, TRAINING))
    training = TrainingSet("Pittsburgh 30k, training", queries, database)
    if next(folder.glob(f"**/{VALIDATION}"), None) is None:
        return training, ()
    queries, database, metres = _read(folder, _find(folder, VALIDATION))
    near = neighbours(queries.positions, database.positions, metres)
    positives = tuple(frozenset(numbers.tolist()) for numbers in near)
    return training, (Search("Pittsburgh 30k", queries.paths, database.paths, positives),)


def _find(folder: Path, name: str) -> Path:
    found = sorted(folder.glob(f"**/{name}"))
    if not found:
        raise NotFound(
            folder / "datasets" / name, "no such file", "unpack the data set's .mat files"
        )
    return found[0]


def _read(folder: Path, path: Path) -> tuple[PlacePhotos, PlacePhotos, float]:
    """Queries, database, and the distance in metres within which an answer counts."""
    variables = read_mat(path)
    struct = variables.get("dbStruct")
    if not isinstance(struct, dict):
        raise Damaged(f"{path}: no struct dbStruct in it; unpack the data set again")
    queries = _photos(path, folder / QUERIES, struct, "qImageFns", "utmQ")
    database = _photos(path, folder, struct, "dbImageFns", "utmDb")
    return queries, database, float(np.ravel(_field(path, struct, "posDistThr"))[0])


def _photos(
    path: Path, root: Path, struct: dict[str, Any], names: str, positions: str
) -> PlacePhotos:
    images = _field(path, struct, names)
    points = np.asarray(_field(path, struct, positions), np.float64)
    if not isinstance(images, list) or not all(isinstance(name, str) for name in images):
        raise Damaged(f"{path}: dbStruct.{names} is no list of names; unpack the data set again")
    if points.shape != (2, len(images)) or not np.isfinite(points).all():
        raise Damaged(
            f"{path}: dbStruct.{positions} is {points.shape}, not 2 finite numbers for each of "
            f"{len(images)} photos; unpack the data set again"
        )
    return PlacePhotos(
        tuple(root / name for name in images), on_the_map(*points), no_headings(len(images))
    )


def _field(path: Path, struct: dict[str, Any], name: str) -> Any:
    if name not in struct:
        raise Damaged(f"{path}: dbStruct has no field {name}; unpack the data set again")
    return struct[name]
