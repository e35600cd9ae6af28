"""Mapillary Street-Level Sequences: the cities, their tables and the ground truth.

Source: Warburg et al., CVPR 2020, and Mapillary's own evaluator. The queries of a city search its
database only. Panoramas are omitted. The evaluator uses only the queries of the subtask "all" that
are not panoramas and have a database photo within 25 m: 740. It ignores headings, although the
paper requires 40 degrees. For the test cities positions and panoramas are unknown.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from placerec.errors import BadTable, NotFound
from placerec.evaluation.dataset import Dataset, Photos, Protocol, Search
from placerec.evaluation.geometry import on_the_map, with_points, within
from placerec.evaluation.layouts.coordinates import RADIUS, distance_rule
from placerec.evaluation.layouts.photo_lists import listed_photos
from placerec.photos.tables import number_in, read_table
from placerec.records import Array

TRAIN_CITIES = (
    "trondheim", "london", "boston", "melbourne", "amsterdam", "helsinki", "tokyo", "toronto",
    "saopaulo", "moscow", "zurich", "paris", "bangkok", "budapest", "austin", "berlin", "ottawa",
    "phoenix", "goa", "amman", "nairobi", "manila",
)  # fmt: skip
VALIDATION_CITIES = ("cph", "sf")
TEST_CITIES = ("miami", "athens", "buenosaires", "stockholm", "bengaluru", "kampala")
DEGREES = 40.0  # the paper's definition
PARTS = {  # cities, degrees, and whether only the queries of Mapillary's evaluator are used
    "msls-train": (TRAIN_CITIES, None, False), "msls-val": (VALIDATION_CITIES, None, True),
    "msls-val-40": (VALIDATION_CITIES, DEGREES, True),
    "msls-val-all": (VALIDATION_CITIES, None, False),
}  # fmt: skip
TRUTH = {"true": True, "1": True, "false": False, "0": False}
NAME = "Mapillary SLS"


class Side(NamedTuple):
    """Queries or database of a city without panoramas; all arrays have the order of the photos.

    ``night`` and ``sideways`` (n,) bool; ``subtask`` (n,) bool: a photo of the subtask "all".
    """

    photos: Photos
    night: Array
    sideways: Array
    subtask: Array


def read_msls(folder: Path, name: str) -> Dataset:
    """Read the existing cities of a protocol of ``PARTS``, one search per city."""
    cities, degrees, official = PARTS[name]
    existing = _existing(folder / "train_val", cities)
    searches = tuple(_city_search(folder, city, degrees, official) for city in existing)
    if len(searches) < len(cities):
        name += f", {len(searches)} of {len(cities)} cities"
    return Dataset(NAME, Protocol(name, f"of one city, {distance_rule(RADIUS, degrees)}"), searches)


def read_msls_test(folder: Path, name: str) -> Dataset:
    """Read the six cities of the challenge; only Mapillary has their ground truth."""
    searches = []
    for city in _existing(folder / "test", TEST_CITIES):
        queries, database = (_hidden_side(folder, city, side) for side in ("query", "database"))
        searches.append(Search(city, queries, database, (frozenset(),) * len(queries)))
    protocol = Protocol(name, "known to Mapillary only", hidden=True)
    return Dataset(NAME, protocol, tuple(searches))


def _city_search(folder: Path, city: str, degrees: float | None, official: bool) -> Search:
    sides = [read_side(folder, city, side, official=official) for side in ("query", "database")]
    queries, database = (
        side.photos.select(np.flatnonzero(side.subtask).tolist()) for side in sides
    )
    if official:
        near = within(queries, database, RADIUS)
        queries = queries.select([row for row, rows in enumerate(near) if rows])
    for side, photos in (("query", queries), ("database", database)):
        root = folder / "train_val" / city / side
        if not photos:
            raise NotFound(root, "no photo of the subtask in it", "unpack the city again")
        listed_photos(folder, photos.names, root / "postprocessed.csv")
    return Search(city, queries, database, within(queries, database, RADIUS, degrees))


def read_side(
    folder: Path, city: str, side: str, region: int = 0, *, official: bool = False
) -> Side:
    """Read the tables of one side of a city of ``folder/train_val``; omit panoramas.

    ``subtask_index.csv`` is only read if ``official``. The photos are not opened.
    """
    root = folder / "train_val" / city / side
    raw, table = root / "raw.csv", root / "postprocessed.csv"
    panorama, compass = {}, {}
    for line, row in read_table(raw, ("key", "pano"), optional=("ca",)):
        panorama[row["key"]] = _truth(raw, line, row["pano"])
        angle = row.get("ca", "").strip()
        compass[row["key"]] = number_in(raw, line, row, "ca") if angle else np.nan
    columns = ("key", "easting", "northing", "night", "view_direction")
    rows = []
    count = 0
    for count, (line, row) in enumerate(read_table(table, columns), start=1):
        key = row["key"]
        if key not in panorama:
            raise BadTable(table, line, f"{key} is not in raw.csv")
        if not panorama[key]:
            east, north = (number_in(table, line, row, name) for name in ("easting", "northing"))
            sideways = row["view_direction"].strip().lower() == "sideways"
            night = _truth(table, line, row["night"])
            rows.append((key, east, north, compass[key], night, sideways, count - 1))
    if not rows:
        raise NotFound(table, "no photo in it except panoramas", "unpack the city again")
    keys, *values = zip(*rows, strict=True)
    easting, northing, headings, at_night, looks_sideways, numbers = map(np.array, values)
    photos = Photos(
        tuple(f"train_val/{city}/{side}/images/{key}.jpg" for key in keys),
        tuple(root / "images" / f"{key}.jpg" for key in keys),
        conditions=tuple(np.where(at_night, "night", "day").tolist()),
    )
    photos = with_points(photos, on_the_map(easting, northing, region), headings)
    subtask = _subtask_all(root, count)[numbers] if official else np.ones(len(keys), bool)
    return Side(photos, at_night, looks_sideways, subtask)


def _hidden_side(folder: Path, city: str, side: str) -> Photos:
    root = folder / "test" / city / side
    keys = [row["key"] for _, row in read_table(root / "seq_info.csv", ("key",))]
    names = [
        f"test/{city}/{side}/images/{keys[row]}.jpg"
        for row in np.flatnonzero(_subtask_all(root, len(keys)))
    ]
    return listed_photos(folder, names, root / "seq_info.csv")


def _subtask_all(root: Path, count: int) -> Array:
    """Return which of the ``count`` photos (n,) belong to the subtask "all"."""
    table = root / "subtask_index.csv"
    rows = list(read_table(table, ("all",)))
    if len(rows) != count:
        raise BadTable(table, 1, f"{len(rows)} rows, not {count}")
    return np.array([_truth(table, line, row["all"]) for line, row in rows], bool)


def _existing(root: Path, cities: tuple[str, ...]) -> list[str]:
    existing = [city for city in cities if (root / city).is_dir()]
    if not existing:
        raise NotFound(root, f"none of the cities {', '.join(cities)} is in it", "unpack one")
    return existing


def _truth(path: Path, line: int, text: str) -> bool:
    if text.strip().lower() not in TRUTH:
        raise BadTable(path, line, f"{text!r} is neither True nor False")
    return TRUTH[text.strip().lower()]
