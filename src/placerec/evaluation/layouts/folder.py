"""The simplest layout: ``database/``, ``queries/`` and ``ground_truth.csv`` (query,database).

Each row is a positive pair. Names are relative to the two folders, or begin with ``queries/`` and
``database/``. Positions from an optional ``coordinates.csv`` do not decide here: they draw the
queries on a map and tell which of them show one place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from placerec.errors import BadTable, NotFound
from placerec.evaluation.dataset import Dataset, Photos, Protocol, Search
from placerec.evaluation.layouts.coordinates import COORDINATES, read_coordinates, with_positions
from placerec.evaluation.layouts.general import Overrides
from placerec.evaluation.layouts.photo_lists import DATABASE, QUERIES, sides
from placerec.photos.tables import read_table

GROUND_TRUTH = "ground_truth.csv"


def read_folder(folder: Path, overrides: Overrides) -> Dataset:
    """Read the data set in ``folder``; its ground truth file decides."""
    queries, database = sides(folder)
    truth = overrides.ground_truth or folder / GROUND_TRUTH
    positives = _pairs(truth, folder, queries, database)
    if (folder / COORDINATES).is_file():
        table = read_coordinates(folder / COORDINATES)
        queries = with_positions(queries, table, QUERIES)
        database = with_positions(database, table, DATABASE)
    else:
        queries = replace(queries, place_labels=_labels(queries, positives))
    name = "folder" if truth.name == GROUND_TRUTH else f"folder, {truth.name}"
    protocol = Protocol(name, f"a pair of {truth.name}")
    return Dataset(folder.name, protocol, (Search(folder.name, queries, database, positives),))


def _pairs(
    truth: Path, folder: Path, queries: Photos, database: Photos
) -> tuple[frozenset[int], ...]:
    query_rows = {name: row for row, name in enumerate(queries.names)}
    database_rows = {name: row for row, name in enumerate(database.names)}

    def row(name: str, rows: Mapping[str, int], side: str, line: int) -> int:
        """Look the name up first as it is, then without the name of the folder ``side``."""
        for photo in (name, name.removeprefix(side)):
            if photo in rows:
                return rows[photo]
        raise BadTable(truth, line, f"{name!r} is not in {folder / side}")

    positives: list[set[int]] = [set() for _ in queries.names]
    for line, pair in read_table(truth, ("query", "database")):
        query = row(pair["query"], query_rows, QUERIES, line)
        positives[query].add(row(pair["database"], database_rows, DATABASE, line))
    if not any(positives):
        raise NotFound(truth, "no pair in it", "each row names a query and a correct photo")
    return tuple(map(frozenset, positives))


def _labels(queries: Photos, positives: tuple[frozenset[int], ...]) -> tuple[str, ...]:
    """Return place labels without positions: queries with the same positives share a label."""
    labels: dict[frozenset[int], str] = {}
    return tuple(
        labels.setdefault(rows, name) if rows else name
        for name, rows in zip(queries.names, positives, strict=True)
    )
