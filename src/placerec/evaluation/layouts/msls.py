"""Mapillary Street-Level Sequences: the cities, their tables and the ground truth.

Source: Warburg et al., CVPR 2020, and Mapillary's own evaluator. A city has
``train_val/CITY/{query,database}/`` with ``images/KEY.jpg``, ``postprocessed.csv`` (key, easting,
northing, night, view_direction), ``raw.csv`` (key, pano, ca: the compass angle) and, to validate,
``subtask_index.csv`` (all). Panoramas are omitted. The queries of a city search its database only;
all queries are counted together.

The evaluator uses only the queries of the subtask "all" (750 in Copenhagen and San Francisco) that
are not panoramas and have a database photo within 25 m: 740. It ignores headings, although the
paper requires 40 degrees. For the test cities (``test/CITY``, with ``seq_info.csv`` and
``subtask_index.csv``) positions and panoramas are unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from placerec.errors import BadTable, NotFound
from placerec.evaluation.dataset import Dataset, Photos, Protocol, Search
from placerec.evaluation.geometry import on_the_map, with_points, within
from placerec.evaluation.layouts.coordinates import RADIUS
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
TRUTH = {"true": True, "1": True, "false": False, "0": False}
NAME = "Mapillary SLS"


@dataclass(frozen=True, slots=True)
class Side:
    """Queries or database of a city without panoramas; all arrays have the order of the photos.

    ``night`` and ``sideways`` (n,) bool; ``subtask`` (n,) bool: a photo of the subtask "all".
    """

    photos: Photos
    night: Array
    sideways: Array
    subtask: Array


def _read(
    name: str, cities: tuple[str, ...], degrees: float | None, official: bool, folder: Path
) -> Dataset:
    searches = tuple(
        city_search(folder, city, degrees, official=official)
        for city in _existing(folder / "train_val", cities)
    )
    if len(searches) < len(cities):
        name += f", {len(searches)} of {len(cities)} cities"
    rule = f"of one city, at most {RADIUS:g} m apart"
    if degrees is not None:
        rule += f", headings at most {degrees:g} degrees"
    return Dataset(NAME, Protocol(name, rule), searches)


# The last value: whether only the 740 queries of Mapillary's evaluator are used.
read_train = partial(_read, "msls-train", TRAIN_CITIES, None, False)
read_val = partial(_read, "msls-val", VALIDATION_CITIES, None, True)
read_val_40 = partial(_read, "msls-val-40", VALIDATION_CITIES, DEGREES, True)
read_val_all = partial(_read, "msls-val-all", VALIDATION_CITIES, None, False)


def read_test(folder: Path) -> Dataset:
    """Read the six cities of the challenge; only Mapillary has their ground truth."""
    searches = []
    for city in _existing(folder / "test", TEST_CITIES):
        queries, database = (_hidden_side(folder, city, side) for side in ("query", "database"))
        searches.append(Search(city, queries, database, (frozenset(),) * len(queries)))
    protocol = Protocol("msls-test", "known to Mapillary only", hidden=True)
    return Dataset(NAME, protocol, tuple(searches))


def city_search(
    folder: Path, city: str, degrees: float | None = None, *, official: bool = False
) -> Search:
    """Read one city below ``folder/train_val``; ``official``: the queries of the evaluator."""
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
    keys, points, night, sideways, numbers = [], [], [], [], []
    count = 0
    for count, (line, row) in enumerate(read_table(table, columns), start=1):
        if row["key"] not in panorama:
            raise BadTable(table, line, f"{row['key']} is not in raw.csv")
        if panorama[row["key"]]:
            continue
        keys.append(row["key"])
        points.append([number_in(table, line, row, name) for name in ("easting", "northing")])
        night.append(_truth(table, line, row["night"]))
        sideways.append(row["view_direction"].strip().lower() == "sideways")
        numbers.append(count - 1)
    if not keys:
        raise NotFound(table, "no photo in it except panoramas", "unpack the city again")
    subtask = _subtask_all(root, count)[numbers] if official else np.ones(len(keys), bool)
    photos = Photos(
        tuple(f"train_val/{city}/{side}/images/{key}.jpg" for key in keys),
        tuple(root / "images" / f"{key}.jpg" for key in keys),
        conditions=tuple("night" if dark else "day" for dark in night),
    )
    headings = np.array([compass[key] for key in keys])
    east, north = np.array(points).T
    photos = with_points(photos, on_the_map(east, north, region), headings)
    return Side(photos, np.array(night, bool), np.array(sideways, bool), subtask)


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
