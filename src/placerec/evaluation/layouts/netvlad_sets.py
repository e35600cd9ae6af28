"""Pittsburgh 30k and Tokyo 24/7: photos by the lists of NetVLAD, positives within 25 m.

Sources: Arandjelovic et al., "NetVLAD", CVPR 2016; Torii et al., CVPR 2015. The lists are MATLAB
files with the struct ``dbStruct``: photo names, map coordinates and the radius. scipy (extra
``matlab``) reads them in a separate process (``mat_process``). Alternatively, both sets in the form
of G. Berton, with positions in file names: ``images/{train,val,test}/{database,queries}/@...jpg``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from placerec.errors import Damaged, MissingExtra, NotFound
from placerec.evaluation.dataset import Dataset, Protocol, Search
from placerec.evaluation.geometry import on_the_map, with_points, within
from placerec.evaluation.layouts.coordinates import RADIUS, distance_rule
from placerec.evaluation.layouts.photo_lists import checked_name, listed_photos
from placerec.evaluation.layouts.utm_names import utm_sides
from placerec.records import Array

PROGRAM = Path(__file__).with_name("mat_process.py")
REMEDY = "unpack the data set again"
PITTSBURGH_QUERIES = ("queries_real",)
TOKYO_QUERIES = ("247query_subset_v2", "247query_v3")  # one of these folders
CUT_OUTS = 12  # database photos of a Tokyo panorama, one every 30 degrees


class DbStruct(NamedTuple):
    """Names in order, points (n, 3) in metres, and the radius of a positive in metres."""

    path: Path
    queries: tuple[str, ...]
    query_points: Array
    database: tuple[str, ...]
    database_points: Array
    metres: float


def read_netvlad_set(folder: Path, name: str) -> Dataset:
    """Read a part of Pittsburgh 30k (``name`` ends with it), or the 315 queries of Tokyo 24/7.

    Only the best cut-out of a Tokyo panorama is shortlisted.
    """
    tokyo = name == "tokyo247"
    part = "test" if tokyo else name.removeprefix("pitts30k-")
    metres = RADIUS
    if (folder / "images" / part).is_dir():
        queries, database = utm_sides(folder / "images" / part)
    else:
        struct = read_dbstruct(find_mat(folder, f"{name.replace('-', '_')}.mat"))
        metres = struct.metres
        roots = TOKYO_QUERIES if tokyo else PITTSBURGH_QUERIES
        root = next((root for root in roots if (folder / root).is_dir()), roots[0])
        query_names = [f"{root}/{photo}" for photo in struct.queries]
        names = [_unpacked(folder, checked_name(photo, struct.path)) for photo in struct.database]
        queries = with_points(listed_photos(folder, query_names, struct.path), struct.query_points)
        database = with_points(listed_photos(folder, names, struct.path), struct.database_points)
    title = "Tokyo 24/7" if tokyo else "Pittsburgh 30k"
    search = Search(title, queries, database, within(queries, database, metres))
    protocol = Protocol(name, distance_rule(metres), CUT_OUTS if tokyo else 1)
    return Dataset(title, protocol, (search,))


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

    def field(name: str) -> Any:
        if name not in fields:
            raise Damaged(f"{path}: dbStruct has no field {name}; {REMEDY}")
        return fields[name]

    def side(names: str, positions: str) -> tuple[tuple[str, ...], Array]:
        texts = field(names)
        if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
            raise Damaged(f"{path}: dbStruct.{names} is not a list of names; {REMEDY}")
        return tuple(texts), checked_points(path, positions, field(positions), len(texts))

    return DbStruct(
        path, *side("qImageFns", "utmQ"), *side("dbImageFns", "utmDb"),
        checked_radius(path, "posDistThr", field("posDistThr")),
    )  # fmt: skip


def checked_points(path: Path, name: str, coordinates: Any, count: int) -> Array:
    """Return points (n, 3) of coordinates (2, n) in metres; raises ``Damaged`` if not valid."""
    values = np.asarray(coordinates)
    valid = values.shape == (2, count) and values.dtype.kind in "iuf"
    if not valid or not np.isfinite(values).all():
        raise Damaged(
            f"{path}: {name} has shape {values.shape}, not 2 finite numbers for each of {count} "
            f"photos; {REMEDY}"
        )
    return on_the_map(*values.astype(np.float64))


def checked_radius(path: Path, name: str, radius: Any) -> float:
    """Return a positive number; raises ``Damaged`` if it is not valid."""
    value = np.asarray(radius)
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


def _unpacked(folder: Path, name: str) -> str:
    """Return the name with .png if there is no .jpg: the list and archives of Tokyo differ."""
    png = name.removesuffix(".jpg") + ".png"
    return png if not (folder / name).is_file() and (folder / png).is_file() else name
