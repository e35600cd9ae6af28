"""The plainest layout: ``database/``, ``queries/`` and ``ground_truth.csv`` (query,database).

Names are relative to the two folders, or begin with ``queries/`` and ``database/``; one row is a
positive pair. A name that is not there is an error with its line. Positions are taken from
``coordinates.csv`` where that lies beside it; they judge nothing here, but put the queries on a map
and tell which of them are of one place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from placerec.errors import BadTable, NotFound
from placerec.evaluation.dataset import Dataset, Photos, Protocol, Search
from placerec.evaluation.layouts.overrides import Options
from placerec.evaluation.layouts.positions import COORDINATES, put, read_coordinates
from placerec.photos.find import find_photos
from placerec.photos.tables import read_table

QUERIES, DATABASE = "queries/", "database/"
GROUND_TRUTH = "ground_truth.csv"


def read_folder(folder: Path, options: Options) -> Dataset:
    """The data set in ``folder``, judged by its ground truth."""
    queries, database = sides(folder)
    truth = options.truth_in(folder) or folder / GROUND_TRUTH
    positives = _pairs(truth, folder, queries, database)
    if (folder / COORDINATES).is_file():
        table = read_coordinates(folder / COORDINATES)
        queries, database = put(queries, table, QUERIES), put(database, table, DATABASE)
    if not queries.places:
        queries = replace(queries, places=_alike(queries, positives))
    parts = ("folder",) if truth.name == GROUND_TRUTH else ("folder", truth.name)
    protocol = Protocol(options.named(*parts), f"a pair of {truth.name}", options.panorama)
    return Dataset(folder.name, protocol, (Search(folder.name, queries, database, positives),))


def sides(folder: Path) -> tuple[Photos, Photos]:
    """The photos below ``queries/`` and ``database/``, sorted by name."""
    found = []
    for side in (QUERIES, DATABASE):
        if not (folder / side).is_dir():
            raise NotFound(
                folder / side, "no such folder", "a data set has the folders database/ and queries/"
            )
        names = find_photos(folder / side)
        if not names:
            raise NotFound(folder / side, "no photo in it", "put its photos there")
        found.append(Photos(tuple(names), tuple(folder / side / name for name in names)))
    return found[0], found[1]


def _pairs(
    truth: Path, folder: Path, queries: Photos, database: Photos
) -> tuple[frozenset[int], ...]:
    query_numbers = {name: n for n, name in enumerate(queries.names)}
    database_numbers = {name: n for n, name in enumerate(database.names)}
    positives: list[set[int]] = [set() for _ in queries.names]
    for line, row in read_table(truth, ("query", "database")):
        try:
            query = _numbered(row["query"], query_numbers, folder, QUERIES)
            other = _numbered(row["database"], database_numbers, folder, DATABASE)
        except ValueError as error:
            raise BadTable(truth, line, str(error)) from error
        positives[query].add(other)
    if not any(positives):
        raise NotFound(truth, "no pair in it", "a row is a query and a right database photo")
    return tuple(frozenset(numbers) for numbers in positives)


def _numbered(name: str, numbers: Mapping[str, int], folder: Path, side: str) -> int:
    """A name as it stands means its photo; only where there is none, one without ``side``."""
    number = numbers.get(name, numbers.get(name.removeprefix(side)))
    if number is None:
        raise ValueError(f"{name!r} is not in {folder / side}")
    return number


def _alike(queries: Photos, positives: tuple[frozenset[int], ...]) -> tuple[str, ...]:
    """Labels where no positions are known: queries with the same positives are of one place."""
    labels: dict[frozenset[int], str] = {}
    return tuple(
        labels.setdefault(numbers, name) if numbers else name
        for name, numbers in zip(queries.names, positives, strict=True)
    )
