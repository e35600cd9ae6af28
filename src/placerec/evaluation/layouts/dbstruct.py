"""The struct ``dbStruct`` of NetVLAD's MATLAB files: photo names, map coordinates and the radius.

scipy (extra ``matlab``) reads the file in a separate process (``mat_process``).
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from placerec.errors import Damaged, MissingExtra, NotFound
from placerec.evaluation.geometry import on_the_map
from placerec.records import Array

PROGRAM = Path(__file__).with_name("mat_process.py")
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
    fields = _load(path)
    queries, query_points = _side(path, fields, "qImageFns", "utmQ")
    database, database_points = _side(path, fields, "dbImageFns", "utmDb")
    metres = checked_radius(path, "posDistThr", np.array(_field(path, fields, "posDistThr")))
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


def _load(path: Path) -> dict[str, Any]:
    """Return the fields of ``dbStruct``, read by scipy in a separate process."""
    if find_spec("scipy") is None:
        raise MissingExtra(f"{path.name}, a MATLAB file,", "matlab")
    if not path.is_file():
        raise NotFound(path, "no such file", REMEDY)
    command = [sys.executable, "-P", str(PROGRAM), str(path.absolute())]
    process = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - no shell
    if process.returncode:
        reason = process.stderr.decode("utf-8", "replace").strip() or "the reader crashed"
        problem = f"not a readable MATLAB file ({reason}); save it in MATLAB with -v7"
        raise Damaged(f"{path}: {problem}, or {REMEDY}")
    fields = json.loads(process.stdout)
    if fields is None:
        raise Damaged(f"{path}: no struct dbStruct in it; {REMEDY}")
    return dict(fields)


def _side(
    path: Path, fields: dict[str, Any], names: str, positions: str
) -> tuple[tuple[str, ...], Array]:
    texts = _field(path, fields, names)
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
        raise Damaged(f"{path}: dbStruct.{names} is not a list of names; {REMEDY}")
    values = np.array(_field(path, fields, positions))
    return tuple(texts), checked_points(path, positions, values, len(texts))


def _field(path: Path, fields: dict[str, Any], name: str) -> Any:
    if name not in fields:
        raise Damaged(f"{path}: dbStruct has no field {name}; {REMEDY}")
    return fields[name]
