"""Positions in file names: ``@UTM_east@UTM_north@...@.jpg``.

Source: G. Berton's tools ("Deep Visual Geo-localization Benchmark", CVPR 2022). They write 14
fields, ``@UTM_east@UTM_north@zone@letter@lat@lon@pano@tile@heading@...@.jpg``, and read the first
two of any number of fields. This reader uses the zone with its letter in all names, and the other
fields only in names with 14. Photos are in ``database/`` and ``queries/`` of the folder or of its
``images/test``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from placerec.errors import Damaged
from placerec.evaluation.dataset import Dataset, Photos
from placerec.evaluation.geometry import on_the_map, with_points
from placerec.evaluation.layouts.coordinates import distance_dataset
from placerec.evaluation.layouts.overrides import Overrides
from placerec.evaluation.layouts.photo_lists import QUERIES, sides

EAST, NORTH, ZONE, LETTER, PANORAMA, HEADING = 1, 2, 3, 4, 7, 9  # field numbers
FULL = 14  # fields between the first @ and the last
ZONES, NO_ZONE = 60, 0  # UTM zones are numbered from 1 to 60
IMAGES = "images/test"


def read_utm_names(folder: Path, overrides: Overrides) -> Dataset:
    """Read the data set in ``folder``; the positions in its file names decide."""
    inside = not (folder / QUERIES).is_dir() and (folder / IMAGES).is_dir()
    queries, database = utm_sides(folder / IMAGES if inside else folder)
    return distance_dataset("utm-names", folder.name, queries, database, overrides)


def utm_sides(folder: Path) -> tuple[Photos, Photos]:
    """Return queries and database with their positions."""
    queries, database = with_utm(*sides(folder))
    return queries, database


def with_utm(*groups: Photos) -> tuple[Photos, ...]:
    """Return photos with the positions and, if they exist, the headings of their names.

    Photos of different zones are on different maps. If some names have no zone, all others must
    have the same zone, which then applies to all.
    """
    zones = {path: _zone(path) for photos in groups for path in photos.paths}
    without = next((path for path, zone in zones.items() if zone == NO_ZONE), None)
    if without is not None:
        numbers = sorted(set(zones.values()) - {NO_ZONE})
        if len(numbers) > 1:
            raise Damaged(
                f"{without}: its name has no zone, but other names have several "
                f"({', '.join(map(str, numbers))}); write the zone in every name"
            )
        zones = dict.fromkeys(zones, NO_ZONE)
    return tuple(_with_fields(photos, zones) for photos in groups)


def _with_fields(photos: Photos, zones: Mapping[Path, int]) -> Photos:
    rows = [(path, utm_fields(path)) for path in photos.paths]
    east, north = (
        np.array([_number(path, fields[at]) for path, fields in rows]) for at in (EAST, NORTH)
    )
    headings = [
        _number(path, fields[HEADING]) % 360.0 if _full(fields) and fields[HEADING] else np.nan
        for path, fields in rows
    ]
    regions = np.array([zones[path] for path in photos.paths])
    return with_points(photos, on_the_map(east, north, regions), np.array(headings))


def has_utm(path: Path) -> bool:
    """Return whether a name has these fields, with any content."""
    return len(path.name.split("@")) >= NORTH + 2


def utm_fields(path: Path) -> list[str]:
    """Return the fields of a name; ``fields[0]`` is the text before the first ``@``."""
    if not has_utm(path):
        raise Damaged(f"{path}: its name is not @UTM_east@UTM_north@...@.jpg; rename it")
    return path.name.split("@")


def _full(fields: list[str]) -> bool:
    return len(fields) == FULL + 2


def _zone(path: Path) -> int:
    """Return the zone in a name, or ``NO_ZONE``."""
    fields = utm_fields(path)
    if _full(fields):
        return int(_number(path, fields[ZONE])) if fields[ZONE] else NO_ZONE
    number, letter, *_ = (*fields[ZONE:-1], "", "")
    valid = number.isdecimal() and 1 <= int(number) <= ZONES
    return int(number) if valid and len(letter) == 1 and letter.isalpha() else NO_ZONE


def _number(path: Path, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise Damaged(f"{path}: {text!r} in its name is not a number; rename it, or remove it")
    return number
