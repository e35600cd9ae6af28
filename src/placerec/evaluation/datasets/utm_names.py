"""Positions in file names: ``@UTM_east@UTM_north@...@.jpg``.

Source: G. Berton's tools ("Deep Visual Geo-localization Benchmark", CVPR 2022). They write every
set with 14 fields, ``@UTM_east@UTM_north@zone@letter@lat@lon@pano@tile@heading@...@.jpg``, and read
the first two of any number. So here: the others mean something in the form with 14 only, save that
a zone with its letter is understood in all. Photos lie below ``database/`` and ``queries/``, of the
folder or of its ``images/test``.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from placerec.errors import Damaged
from placerec.evaluation.dataset import Dataset, Photos
from placerec.evaluation.datasets.coordinates import near
from placerec.evaluation.datasets.folder import QUERIES, sides
from placerec.evaluation.datasets.options import Options
from placerec.evaluation.datasets.placed import Placed, put
from placerec.evaluation.places import on_the_map

EAST, NORTH, ZONE, LETTER, PANORAMA, HEADING = 1, 2, 3, 4, 7, 9  # field numbers
FULL = 14  # fields between the first @ and the last
ZONES = 60  # of UTM, 6 degrees of longitude each
IMAGES = "images/test"


def read_utm_names(folder: Path, options: Options) -> Dataset:
    """The data set in ``folder``, judged by the positions in its file names."""
    inside = not (folder / QUERIES).is_dir() and (folder / IMAGES).is_dir()
    queries, database = utm_sides(folder / IMAGES if inside else folder)
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
        full = len(fields) == FULL + 2
        heading = _number(path, fields[HEADING]) if full and fields[HEADING] else np.nan
        point = on_the_map(np.array([east]), np.array([north]), _zone(path, fields, full=full))[0]
        table[name] = point, heading % 360.0
    return put(photos, table)


def has_utm(path: Path) -> bool:
    """Whether a name has the fields of this form, whatever they hold."""
    return len(path.name.split("@")) >= NORTH + 2


def utm_fields(path: Path) -> list[str]:
    """The fields of a name; ``fields[0]`` stands before the first ``@``."""
    fields = path.name.split("@")
    if not has_utm(path):
        raise Damaged(
            f"{path}: its name is not @UTM_east@UTM_north@...@.jpg; rename it, or remove it"
        )
    return fields


def _zone(path: Path, fields: list[str], *, full: bool) -> int:
    """Photos of different zones are of different maps; 0 where none is named."""
    if full:
        return int(_number(path, fields[ZONE])) if fields[ZONE] else 0
    number, letter, *_ = (*fields[ZONE:-1], "", "")
    named = number.isdecimal() and 1 <= int(number) <= ZONES
    return int(number) if named and len(letter) == 1 and letter.isalpha() else 0


def _number(path: Path, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise Damaged(f"{path}: {text!r} in its name is no number; rename it, or remove it")
    return number
