"""Positions in file names: ``@UTM_east@UTM_north@...@.jpg``.

Source: G. Berton's tools ("Deep Visual Geo-localization Benchmark", CVPR 2022). They write 14
fields, ``@UTM_east@UTM_north@zone@letter@lat@lon@pano@tile@heading@...@.jpg``, and read the first
two of any number of fields. This reader uses the zone with its letter in all names, and the other
fields only in names with 14.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from placerec.errors import Damaged
from placerec.evaluation.dataset import Dataset, Photos
from placerec.evaluation.geometry import on_the_map, with_points
from placerec.evaluation.layouts.coordinates import distance_dataset
from placerec.evaluation.layouts.general import Overrides
from placerec.evaluation.layouts.photo_lists import QUERIES, sides

EAST, NORTH, ZONE, PANORAMA, HEADING = 1, 2, 3, 7, 9  # field numbers
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
    paths = [path for photos in groups for path in photos.paths]
    east, north, heading, zone = np.array([_numbers(path) for path in paths]).T
    zones = np.unique(zone[zone != NO_ZONE]).astype(int)
    if (zone == NO_ZONE).any():
        if len(zones) > 1:
            raise Damaged(
                f"{paths[np.argmax(zone == NO_ZONE)]}: its name has no zone, but other names have "
                f"several ({', '.join(map(str, zones))}); write the zone in every name"
            )
        zone[:] = NO_ZONE
    points = on_the_map(east, north, zone)
    ends = np.cumsum([len(photos) for photos in groups])[:-1]
    rows = zip(groups, np.split(points, ends), np.split(heading, ends), strict=True)
    return tuple(with_points(*group) for group in rows)


def has_utm(path: Path) -> bool:
    """Return whether a name has these fields, with any content."""
    return len(path.name.split("@")) >= NORTH + 2


def utm_fields(path: Path) -> list[str]:
    """Return the fields of a name; ``fields[0]`` is the text before the first ``@``."""
    if not has_utm(path):
        raise Damaged(f"{path}: its name is not @UTM_east@UTM_north@...@.jpg; rename it")
    return path.name.split("@")


def _numbers(path: Path) -> tuple[float, float, float, int]:
    """Return east, north, heading (or NaN) and zone (or ``NO_ZONE``) of a name."""
    fields = utm_fields(path)
    heading = zone = ""
    if len(fields) == FULL + 2:
        heading, zone = fields[HEADING], fields[ZONE]
    else:
        number, letter, *_ = (*fields[ZONE:-1], "", "")
        if number.isdecimal() and 1 <= int(number) <= ZONES and len(letter) == 1:
            zone = number if letter.isalpha() else ""
    return (
        _number(path, fields[EAST]), _number(path, fields[NORTH]),
        _number(path, heading) % 360.0 if heading else math.nan,
        int(_number(path, zone)) if zone else NO_ZONE,
    )  # fmt: skip


def _number(path: Path, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise Damaged(f"{path}: {text!r} in its name is not a number; rename it, or remove it")
    return number
