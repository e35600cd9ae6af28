"""The struct ``dbStruct`` of NetVLAD's MATLAB files: photo names, map coordinates and the radius.

scipy (extra ``matlab``) reads the file. MATLAB objects and functions are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from placerec.errors import Damaged, MissingExtra, NotFound
from placerec.evaluation.geometry import on_the_map
from placerec.records import Array

REMEDY = "unpack the data set again"


@dataclass(frozen=True, slots=True)
class DbStruct:
    """Names in order, points (n, 3) in metres, and the radius of a positive in metres."""

    path: Path
    queries: tuple[str, ...]
    database: tuple[str, ...]
    query_points: Array
    database_points: Array
    metres: float


def find_mat(folder: Path, name: str) -> Path:
    """Return the .mat file ``name`` in ``folder`` or below it."""
    for pattern in (name, f"datasets/{name}", f"**/{name}"):
        matches = sorted(folder.glob(pattern))
        if matches:
            return matches[0]
    raise NotFound(folder / "datasets" / name, "no such file", "unpack the data set's .mat files")


def read_dbstruct(path: Path) -> DbStruct:
    """Read a .mat file (format 5 or older) without a look at the photos.

    Raises ``Damaged`` if the file or the struct is not valid, ``MissingExtra`` without scipy.
    """
    struct = _load(path)
    queries, query_points = _side(path, struct, "qImageFns", "utmQ")
    database, database_points = _side(path, struct, "dbImageFns", "utmDb")
    metres = checked_radius(path, "posDistThr", _field(path, struct, "posDistThr"))
    return DbStruct(path, queries, database, query_points, database_points, metres)


def checked_points(path: Path, name: str, values: Array, count: int) -> Array:
    """Return points (n, 3) of coordinates (2, n) in metres; raises ``Damaged`` if not valid."""
    valid = values.shape == (2, count) and values.dtype.kind in "iuf"
    if not valid or not np.isfinite(values).all():
        raise Damaged(
            f"{path}: {name} has shape {values.shape}, not 2 finite numbers for each of {count} "
            f"photos; {REMEDY}"
        )
    return on_the_map(*values.astype(np.float64))


def checked_radius(path: Path, name: str, value: Array) -> float:
    """Return a positive number; raises ``Damaged`` if it is not valid."""
    if value.size != 1 or value.dtype.kind not in "iuf" or not 0 < value.item() < np.inf:
        raise Damaged(f"{path}: {name} is not a distance; {REMEDY}")
    return float(value.item())


def _load(path: Path) -> Any:
    """Return ``dbStruct`` as a structured record."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise MissingExtra(f"{path.name}, a MATLAB file,", "matlab") from error
    if not path.is_file():
        raise NotFound(path, "no such file", REMEDY)
    try:
        value = loadmat(path, appendmat=False, variable_names=["dbStruct"]).get("dbStruct")
    except Exception as error:  # scipy raises many types of errors for a damaged file
        problem = f"not a readable MATLAB file ({error}); save it in MATLAB with -v7"
        raise Damaged(f"{path}: {problem}, or {REMEDY}") from error
    # MATLAB objects and functions are subclasses of an array.
    if type(value) is not np.ndarray or value.dtype.names is None or value.size != 1:
        raise Damaged(f"{path}: no struct dbStruct in it; {REMEDY}")
    return value.reshape(-1)[0]


def _side(path: Path, struct: Any, names: str, positions: str) -> tuple[tuple[str, ...], Array]:
    cells, values = _field(path, struct, names), _field(path, struct, positions)
    texts = [np.asarray(cell) for cell in cells.ravel()] if cells.dtype == object else []
    if not texts or not all(text.dtype.kind == "U" and text.size == 1 for text in texts):
        raise Damaged(f"{path}: dbStruct.{names} is not a list of names; {REMEDY}")
    points = checked_points(path, positions, values, len(texts))
    return tuple(str(text.item()) for text in texts), points


def _field(path: Path, struct: Any, name: str) -> Array:
    if name not in struct.dtype.names:
        raise Damaged(f"{path}: dbStruct has no field {name}; {REMEDY}")
    return np.asarray(struct[name])
