"""The ``dbStruct`` of NetVLAD's .mat files: names, map coordinates, and how near is right."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from placerec.errors import Damaged, NotFound
from placerec.evaluation.dataset import Photos
from placerec.evaluation.geometry import on_the_map, one_place
from placerec.evaluation.layouts.matlab import read_mat
from placerec.records import Array


@dataclass(frozen=True, slots=True)
class DbStruct:
    """Names in their order, points (n, 3) in metres, and the metres within which one counts."""

    path: Path
    queries: tuple[str, ...]
    database: tuple[str, ...]
    query_points: Array
    database_points: Array
    metres: float


def find_mat(folder: Path, name: str) -> Path:
    """The .mat file of that name in ``folder`` or below it."""
    for pattern in (name, f"datasets/{name}", f"**/{name}"):
        found = sorted(folder.glob(pattern))
        if found:
            return found[0]
    raise NotFound(folder / "datasets" / name, "no such file", "unpack the data set's .mat files")


def read_dbstruct(path: Path) -> DbStruct:
    """The lists in a .mat file; whether the photos are there is not looked at."""
    struct = read_mat(path).get("dbStruct")
    if not isinstance(struct, dict):
        raise Damaged(f"{path}: no struct dbStruct in it; unpack the data set again")
    queries, query_points = _side(path, struct, "qImageFns", "utmQ")
    database, database_points = _side(path, struct, "dbImageFns", "utmDb")
    metres = np.ravel(_field(path, struct, "posDistThr"))
    if metres.size != 1 or metres.dtype.kind not in "iuf" or not 0 < float(metres[0]) < np.inf:
        raise Damaged(f"{path}: dbStruct.posDistThr is no distance; unpack the data set again")
    return DbStruct(path, queries, database, query_points, database_points, float(metres[0]))


def placed(photos: Photos, points: Array) -> Photos:
    """The photos at these points; the views of one panorama are of one place."""
    return replace(photos, positions=points, places=one_place(points))


def _side(
    path: Path, struct: dict[str, Any], names: str, positions: str
) -> tuple[tuple[str, ...], Array]:
    images, values = _field(path, struct, names), _field(path, struct, positions)
    if not isinstance(images, list) or not all(isinstance(name, str) for name in images):
        raise Damaged(f"{path}: dbStruct.{names} is no list of names; unpack the data set again")
    shape = np.shape(values)
    if (
        shape != (2, len(images))
        or np.asarray(values).dtype.kind not in "iuf"
        or not np.isfinite(values).all()
    ):
        raise Damaged(
            f"{path}: dbStruct.{positions} is {shape}, not 2 finite numbers for each of "
            f"{len(images)} photos; unpack the data set again"
        )
    return tuple(images), on_the_map(*np.asarray(values, np.float64))


def _field(path: Path, struct: dict[str, Any], name: str) -> Any:
    if name not in struct:
        raise Damaged(f"{path}: dbStruct has no field {name}; unpack the data set again")
    return struct[name]
