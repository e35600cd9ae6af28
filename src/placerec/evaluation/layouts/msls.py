"""Mapillary Street-Level Sequences: cities, their tables, and who answers whom.

Source: Warburg et al., CVPR 2020, and Mapillary's own evaluator. A city has
``train_val/CITY/{query,database}/`` with ``images/KEY.jpg``, ``postprocessed.csv`` (key, easting,
northing, night, view_direction), ``raw.csv`` (key, pano, ca: the compass angle) and, to validate,
``subtask_index.csv`` (all). Panoramas are left out. Each city is searched by its own queries; all
queries are counted together.

The evaluator only asks the queries of the subtask "all" (750 in Copenhagen and San Francisco) that
are no panorama and have a database photo within 25 m: 740. It does not look at headings, though the
paper asks for 40 degrees. Of the test cities (``test/CITY``, with ``seq_info.csv`` and
``subtask_index.csv``) neither positions nor panoramas are known.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from placerec.errors import BadTable, NotFound
from placerec.evaluation.dataset import Dataset, Photos, Protocol, Search
from placerec.evaluation.geometry import on_the_map, one_place, within
from placerec.evaluation.layouts.names import listed
from placerec.evaluation.layouts.overrides import RADIUS, Options
from placerec.photos.tables import number_in, read_table
from placerec.records import Array

TRAIN_CITIES = (
    "trondheim", "london", "boston", "melbourne", "amsterdam", "helsinki", "tokyo", "toronto",
    "saopaulo", "moscow", "zurich", "paris", "bangkok", "budapest", "austin", "berlin", "ottawa",
    "phoenix", "goa", "amman", "nairobi", "manila",
)  # fmt: skip
VALIDATION_CITIES = ("cph", "sf")
TEST_CITIES = ("miami", "athens", "buenosaires", "stockholm", "bengaluru", "kampala")
DEGREES = 40.0  # of the paper's definition
TRUTH = {"true": True, "1": True, "false": False, "0": False}
NAME = "Mapillary SLS"


@dataclass(frozen=True, slots=True)
class Side:
    """Queries or database of a city without panoramas; all arrays have its photos' order.

    ``night`` and ``sideways`` (n,) bool; ``asked`` (n,) bool: of the subtask "all".
    """

    photos: Photos
    night: Array
    sideways: Array
    asked: Array


def read_train(folder: Path, _: Options) -> Dataset:
    """The 22 training cities, as something to search."""
    return _read(folder, "msls-train", TRAIN_CITIES, None, official=False)


def read_val(folder: Path, _: Options) -> Dataset:
    """Copenhagen and San Francisco with the 740 queries of Mapillary's evaluator."""
    return _read(folder, "msls-val", VALIDATION_CITIES, None, official=True)


def read_val_40(folder: Path, _: Options) -> Dataset:
    """The same 740 queries; a positive also looks the same way."""
    return _read(folder, "msls-val-40", VALIDATION_CITIES, DEGREES, official=True)


def read_val_all(folder: Path, _: Options) -> Dataset:
    """Every query of Copenhagen and San Francisco that is no panorama."""
    return _read(folder, "msls-val-all", VALIDATION_CITIES, None, official=False)


def read_test(folder: Path, _: Options) -> Dataset:
    """The six cities of the challenge, whose truth Mapillary keeps."""
    searches = []
    for city in _there(folder / "test", TEST_CITIES):
        queries, database = (_hidden_side(folder, city, side) for side in ("query", "database"))
        searches.append(Search(city, queries, database, (frozenset(),) * len(queries)))
    protocol = Protocol("msls-test", "known to Mapillary only", hidden=True)
    return Dataset(NAME, protocol, tuple(searches))


def _read(
    folder: Path, name: str, cities: tuple[str, ...], degrees: float | None, *, official: bool
) -> Dataset:
    searches = tuple(
        city_search(folder, city, degrees, official=official)
        for city in _there(folder / "train_val", cities)
    )
    if len(searches) < len(cities):
        name += f", {len(searches)} of {len(cities)} cities"
    rule = f"of one city, at most {RADIUS:g} m apart"
    if degrees is not None:
        rule += f", headings at most {degrees:g} degrees"
    return Dataset(NAME, Protocol(name, rule), searches)


def city_search(
    folder: Path, city: str, degrees: float | None = None, *, official: bool = False
) -> Search:
    """One city below ``folder/train_val``."""
    sides = {
        side: read_side(folder, city, side, official=official) for side in ("query", "database")
    }
    queries, database = (
        side.photos.chosen(np.flatnonzero(side.asked).tolist()) for side in sides.values()
    )
    near = within(queries, database, RADIUS)
    if official:
        kept = [n for n, numbers in enumerate(near) if numbers]
        queries, near = queries.chosen(kept), tuple(near[n] for n in kept)
    if degrees is not None:
        near = within(queries, database, RADIUS, degrees)
    for side, photos in (("query", queries), ("database", database)):
        where = folder / "train_val" / city / side
        if not photos:
            raise NotFound(where, "no photo in it that counts", "unpack the city again")
        listed(folder, photos.names, where / "postprocessed.csv")
    return Search(city, queries, database, near)


def read_side(
    folder: Path, city: str, side: str, region: int = 0, *, official: bool = False
) -> Side:
    """The photos of one side of a city of ``folder/train_val``, panoramas left out.

    Only the official list reads ``subtask_index.csv``. No photo is looked at.
    """
    where = folder / "train_val" / city / side
    panorama, compass = {}, {}
    for line, row in read_table(where / "raw.csv", ("key", "pano"), optional=("ca",)):
        panorama[row["key"]] = _truth(where / "raw.csv", line, row["pano"])
        angle = row.get("ca", "").strip()
        compass[row["key"]] = number_in(where / "raw.csv", line, row, "ca") if angle else np.nan
    table = where / "postprocessed.csv"
    columns = ("key", "easting", "northing", "night", "view_direction")
    keys, points, night, sideways, rows = [], [], [], [], []
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
        rows.append(count - 1)
    if not keys:
        raise NotFound(table, "no photo in it is left without panoramas", "unpack the city again")
    asked = _subtask_all(where) if official else None
    if asked is not None and len(asked) != count:
        raise BadTable(where / "subtask_index.csv", 1, f"{len(asked)} rows, not {count}")
    easting, northing = np.array(points).T
    positions = on_the_map(easting, northing, region)
    headings = np.array([compass[key] for key in keys])
    photos = Photos(
        tuple(f"train_val/{city}/{side}/images/{key}.jpg" for key in keys),
        tuple(where / "images" / f"{key}.jpg" for key in keys),
        positions, None if np.isnan(headings).all() else headings,
        places=one_place(positions), conditions=tuple("night" if n else "day" for n in night),
    )  # fmt: skip
    return Side(
        photos, np.array(night, bool), np.array(sideways, bool),
        np.ones(len(keys), bool) if asked is None else asked[rows],
    )  # fmt: skip


def _hidden_side(folder: Path, city: str, side: str) -> Photos:
    where = folder / "test" / city / side
    asked = _subtask_all(where)
    keys = [row["key"] for _, row in read_table(where / "seq_info.csv", ("key",))]
    if len(keys) != len(asked):
        raise BadTable(where / "subtask_index.csv", 1, f"{len(asked)} rows, not {len(keys)}")
    names = [
        f"test/{city}/{side}/images/{key}.jpg"
        for key, counts in zip(keys, asked, strict=True) if counts
    ]  # fmt: skip
    return listed(folder, names, where / "seq_info.csv")


def _subtask_all(where: Path) -> Array:
    table = where / "subtask_index.csv"
    rows = read_table(table, ("all",))
    return np.array([_truth(table, line, row["all"]) for line, row in rows], bool)


def _there(root: Path, cities: tuple[str, ...]) -> list[str]:
    found = [city for city in cities if (root / city).is_dir()]
    if not found:
        raise NotFound(
            root, f"none of the cities {', '.join(cities)} is in it", "unpack at least one"
        )
    return found


def _truth(path: Path, line: int, text: str) -> bool:
    if text.strip().lower() not in TRUTH:
        raise BadTable(path, line, f"{text!r} is neither True nor False")
    return TRUTH[text.strip().lower()]
