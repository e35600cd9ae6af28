"""Positions in file names: ``@UTM_east@UTM_north@...@.jpg``.

Source: G. Berton's tools ("Deep Visual Geo-localization Benchmark", CVPR 2022). They write every
set with 14 fields, ``@UTM_east@UTM_north@zone@letter@lat@lon@pano@tile@heading@...@.jpg``, and read
the first two of any number. So here: the others mean something in the form with 14 only, save that
a zone with its letter is understood in all. Photos lie below ``database/`` and ``queries/``, of the
folder or of its ``images/test``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from placerec.errors import Damaged
from placerec.evaluation.dataset import Dataset, Photos
from placerec.evaluation.geometry import on_the_map
from placerec.evaluation.layouts.coordinates import near
from placerec.evaluation.layouts.folder import QUERIES, sides
from placerec.evaluation.layouts.overrides import Options
from placerec.evaluation.layouts.positions import Placed, put

EAST, NORTH, ZONE, LETTER, PANORAMA, HEADING = 1, 2, 3, 4, 7, 9  # field numbers
FULL = 14  # fields between the first @ and the last
ZONES, NO_ZONE = 60, 0  # of UTM, 6 degrees of longitude each, numbered from 1
IMAGES = "images/test"


def read_utm_names(folder: Path, options: Options) -> Dataset:
    """The data set in ``folder``, judged by the positions in its file names."""
    inside = not (folder / QUERIES).is_dir() and (folder / IMAGES).is_dir()
    queries, database = utm_sides(folder / IMAGES if inside else folder)
    return near("utm-names", folder.name, queries, database, options)


def utm_sides(folder: Path) -> tuple[Photos, Photos]:
    """Queries and database with their positions."""
    queries, database = with_utm(*sides(folder))
    return queries, database


def with_utm(*groups: Photos) -> tuple[Photos, ...]:
    """Photos with the positions, and headings where there are some, of their names.

    Photos of different zones are of different maps. Where some names have no zone, the others must
    agree on one, which is then that of all.
    """
    zones = {path: _zone(path) for photos in groups for path in photos.paths}
    named = set(zones.values()) - {NO_ZONE}
    without = [path for path, zone in zones.items() if zone == NO_ZONE]
    if without and len(named) > 1:
        raise Damaged(
            f"{without[0]}: its name has no zone, and those of others have several "
            f"({', '.join(map(str, sorted(named)))}); write it in every name"
        )
    if without:
        zones = dict.fromkeys(zones, NO_ZONE)
    return tuple(_placed(photos, zones) for photos in groups)


def _placed(photos: Photos, zones: Mapping[Path, int]) -> Photos:
    table: dict[str, Placed] = {}
    for name, path in zip(photos.names, photos.paths, strict=True):
        fields = utm_fields(path)
        east, north = (_number(path, fields[at]) for at in (EAST, NORTH))
        heading = _number(path, fields[HEADING]) if _full(fields) and fields[HEADING] else np.nan
        point = on_the_map(np.array([east]), np.array([north]), zones[path])[0]
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


def _full(fields: list[str]) -> bool:
    return len(fields) == FULL + 2


def _zone(path: Path) -> int:
    """The zone in a name, or ``NO_ZONE``."""
    fields = utm_fields(path)
    if _full(fields):
        return int(_number(path, fields[ZONE])) if fields[ZONE] else NO_ZONE
    number, letter, *_ = (*fields[ZONE:-1], "", "")
    named = number.isdecimal() and 1 <= int(number) <= ZONES
    return int(number) if named and len(letter) == 1 and letter.isalpha() else NO_ZONE


def _number(path: Path, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise Damaged(f"{path}: {text!r} in its name is no number; rename it, or remove it")
    return number
