"""Mapillary Street-Level Sequences: its cities, its tables, and which photos train.

Source: Warburg et al., CVPR 2020, and the published Patch-NetVLAD program. A city has
``train_val/CITY/{query,database}/`` with ``images/KEY.jpg``, ``postprocessed.csv`` (key, easting,
northing, night, view_direction) and ``raw.csv`` (key, pano). Panoramas are left out. Each city has
a map of its own, so photos of different cities never are neighbours.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from placerec.errors import BadTable, NotFound
from placerec.records import Array
from placerec.training.places import (
    PlacePhotos,
    Search,
    TrainingSet,
    joined,
    neighbours,
    no_headings,
    on_the_map,
)

TRAIN_CITIES = (
    "trondheim", "london", "boston", "melbourne", "amsterdam", "helsinki", "tokyo", "toronto",
    "saopaulo", "moscow", "zurich", "paris", "bangkok", "budapest", "austin", "berlin", "ottawa",
    "phoenix", "goa", "amman", "nairobi", "manila",
)  # fmt: skip
VALIDATION_CITIES = ("cph", "sf")
VALIDATION_METRES = 25.0  # a database photo this near answers a query, whatever its heading
TRUTH = {"true": True, "1": True, "false": False, "0": False}


def read_msls(folder: Path) -> tuple[TrainingSet, tuple[Search, ...]]:
    """The training cities below ``folder/train_val`` that are there, as one set; and validation.

    Night and sideways-looking queries are rare, so they are drawn more often: a query's weight is
    1, plus Q / #night for one by night, plus Q / #sideways for one that looks sideways.
    """
    root = folder / "train_val"
    cities = [city for city in TRAIN_CITIES if (root / city).is_dir()]
    if not cities:
        raise NotFound(root, "none of the 22 training cities is in it", "unpack at least one")
    sides: dict[str, list[PlacePhotos]] = {"query": [], "database": []}
    nights, sideways = [], []
    for region, city in enumerate(cities):
        for side, groups in sides.items():
            photos, night, aside = _side(root / city / side, region)
            groups.append(photos)
            if side == "query":
                nights.append(night)
                sideways.append(aside)
    weights = _weights(np.concatenate(nights), np.concatenate(sideways))
    training = TrainingSet(
        f"Mapillary SLS, {len(cities)} of {len(TRAIN_CITIES)} training cities",
        joined(sides["query"]), joined(sides["database"]), weights,
    )  # fmt: skip
    held_out = [city for city in VALIDATION_CITIES if (root / city).is_dir()]
    return training, tuple(_search(root / city) for city in held_out)


def _search(city: Path) -> Search:
    queries, _, _ = _side(city / "query", 0)
    database, _, _ = _side(city / "database", 0)
    near = neighbours(queries.positions, database.positions, VALIDATION_METRES)
    return Search(
        city.name, queries.paths, database.paths, tuple(frozenset(n.tolist()) for n in near)
    )


def _side(folder: Path, region: int) -> tuple[PlacePhotos, Array, Array]:
    """The photos of one side of a city without panoramas; by night (n,); sideways (n,)."""
    panorama = {
        row["key"]: _truth(folder / "raw.csv", line, row["pano"])
        for line, row in _rows(folder / "raw.csv", ("key", "pano"))
    }
    table = folder / "postprocessed.csv"
    keys, points, night, aside = [], [], [], []
    for line, row in _rows(table, ("key", "easting", "northing", "night", "view_direction")):
        if row["key"] not in panorama:
            raise BadTable(table, line, f"{row['key']} is not in raw.csv")
        if panorama[row["key"]]:
            continue
        keys.append(row["key"])
        points.append([_number(table, line, row[name]) for name in ("easting", "northing")])
        night.append(_truth(table, line, row["night"]))
        aside.append(row["view_direction"].strip().lower() == "sideways")
    if not keys:
        raise NotFound(table, "no photo in it is left without panoramas", "unpack the city again")
    easting, northing = np.array(points).T
    photos = PlacePhotos(
        tuple(folder / "images" / f"{key}.jpg" for key in keys),
        on_the_map(easting, northing, region), no_headings(len(keys)),
    )  # fmt: skip
    return photos, np.array(night, bool), np.array(aside, bool)


def _weights(night: Array, sideways: Array) -> Array:
    weights = np.ones(len(night))
    for rare in (night, sideways):
        if rare.any():
            weights[rare] += len(night) / np.count_nonzero(rare)
    return weights


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    if not path.is_file():
        raise NotFound(path, "no such file", f"a city has it, with {', '.join(columns)}")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            for name in columns:
                if name not in (reader.fieldnames or ()):
                    raise BadTable(path, 1, f"no column {name}")
            for row in reader:
                if any(row[name] in (None, "") for name in columns):
                    raise BadTable(path, reader.line_num, f"needs {', '.join(columns)}")
                yield reader.line_num, row
    except UnicodeDecodeError as error:
        raise BadTable(path, 1, f"not UTF-8 text ({error.reason})") from error


def _truth(path: Path, line: int, text: str) -> bool:
    if text.strip().lower() not in TRUTH:
        raise BadTable(path, line, f"{text!r} is neither True nor False")
    return TRUTH[text.strip().lower()]


def _number(path: Path, line: int, text: str) -> float:
    try:
        number = float(text)
    except ValueError as error:
        raise BadTable(path, line, f"{text!r} is no number") from error
    if not np.isfinite(number):
        raise BadTable(path, line, f"{text!r} is no finite number")
    return number
