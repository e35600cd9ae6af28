"""Positions in file names: ``@UTM_east@UTM_north@zone@letter@lat@lon@pano@tile@heading@...@.jpg``.

So G. Berton's tools write every set ("Deep Visual Geo-localization Benchmark", CVPR 2022); only the
first two fields are needed. Photos lie below ``database/`` and ``queries/``.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from placerec.errors import Damaged
from placerec.evaluation.dataset import Dataset, Photos
from placerec.evaluation.datasets.coordinates import near
from placerec.evaluation.datasets.folder import sides
from placerec.evaluation.datasets.options import Options
from placerec.evaluation.datasets.placed import Placed, put
from placerec.evaluation.places import on_the_map

EAST, NORTH, ZONE, PANORAMA, HEADING = 1, 2, 3, 7, 9  # field numbers


def read_utm_names(folder: Path, options: Options) -> Dataset:
    """The data set in ``folder``, judged by the positions in its file names."""
    queries, database = utm_sides(folder)
    return near("utm-names", folder.name, queries, database, options)


def utm_sides(folder: Path) -> tuple[Photos, Photos]:
    """Queries and database with their positions."""
    queries, database = sides(folder)
    return with_utm(queries), with_utm(database)


def with_utm(photos: Photos) -> Photos:
    """Photos with the positions, and headings where there are some, of their names."""
    table: dict[str, Placed] = {}
    for name, path in zip(photos.names, photos.paths, strict=True):
        fields = utm_fields(path)
        east, north = (_number(path, fields[at]) for at in (EAST, NORTH))
        zone = int(_number(path, fields[ZONE])) if fields[ZONE : ZONE + 1] > [""] else 0
        heading = _number(path, fields[HEADING]) if fields[HEADING : HEADING + 1] > [""] else np.nan
        point = on_the_map(np.array([east]), np.array([north]), zone)[0]
        table[name] = point, heading % 360.0
    return put(photos, table)


def utm_fields(path: Path) -> list[str]:
    """The fields of a name; ``fields[0]`` stands before the first ``@``."""
    fields = path.name.split("@")
    if len(fields) < NORTH + 2:
        raise Damaged(f"{path}: its name is not @UTM_east@UTM_north@...; rename it, or remove it")
    return fields


def _number(path: Path, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise Damaged(f"{path}: {text!r} in its name is no number; rename it, or remove it")
    return number
