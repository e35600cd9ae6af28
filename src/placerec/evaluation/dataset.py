"""A data set on disk: ``database/``, ``queries/`` and ``ground_truth.csv``.

The ground truth has the columns query,database: names relative to the two folders, one row a
positive pair. A name that is not there is an error with its line.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from placerec.errors import BadTable, NotFound, UsageError
from placerec.photos.find import find_photos

HALVES = ("validation", "test")


@dataclass(frozen=True, slots=True)
class Dataset:
    """Database and query photos with the positives of each query (may be empty)."""

    folder: Path
    database: tuple[str, ...]
    queries: tuple[str, ...]
    positives: dict[str, frozenset[str]]

    @property
    def database_folder(self) -> Path:
        """Where the database photos lie."""
        return self.folder / "database"

    @property
    def queries_folder(self) -> Path:
        """Where the query photos lie."""
        return self.folder / "queries"


def read_dataset(
    folder: Path,
    ground_truth: Path | None = None,
    queries_list: Path | None = None,
    half: str | None = None,
) -> Dataset:
    """The data set in ``folder``.

    ``queries_list`` is a CSV file with a column query, and a column half where ``half``
    (validation or test) chooses one of them; only the queries in it are kept, in sorted order.
    """
    for part in (folder, folder / "database", folder / "queries"):
        if not part.is_dir():
            raise NotFound(
                part, "no such folder",
                "a data set has database/, queries/ and ground_truth.csv",
            )  # fmt: skip
    database = tuple(find_photos(folder / "database"))
    queries = tuple(find_photos(folder / "queries"))
    positives: dict[str, set[str]] = {name: set() for name in queries}
    known = frozenset(database)
    truth = ground_truth or folder / "ground_truth.csv"
    for line, row in _rows(truth, ("query", "database")):
        if row["query"] not in positives:
            raise BadTable(truth, line, f"{row['query']} is not in {folder / 'queries'}")
        if row["database"] not in known:
            raise BadTable(truth, line, f"{row['database']} is not in {folder / 'database'}")
        positives[row["query"]].add(row["database"])
    if half is not None and queries_list is None:
        raise UsageError("half: needs --queries-list, a CSV file with the columns query,half")
    if queries_list is not None:
        chosen = _chosen(queries_list, half, positives)
        queries = tuple(name for name in queries if name in chosen)
    if not database or not queries:
        raise NotFound(folder, "no database photo or no query", "check database/ and queries/")
    return Dataset(folder, database, queries, {q: frozenset(positives[q]) for q in queries})


def _chosen(path: Path, half: str | None, known: dict[str, set[str]]) -> set[str]:
    columns = ("query", "half") if half else ("query",)
    if half not in (None, *HALVES):
        raise UsageError(f"half {half!r}: choose {' or '.join(HALVES)}")
    chosen = set()
    for line, row in _rows(path, columns):
        if row["query"] not in known:
            raise BadTable(path, line, f"{row['query']} is no query of this data set")
        if half is None or row["half"] == half:
            chosen.add(row["query"])
    return chosen


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    if not path.is_file():
        raise NotFound(path, "no such file", f"it is a CSV file with {', '.join(columns)}")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise BadTable(path, 1, f"no column {missing[0]}; it needs {', '.join(columns)}")
            for row in reader:
                if any(not row[name] for name in columns):
                    raise BadTable(path, reader.line_num, f"needs {', '.join(columns)}")
                yield reader.line_num, row
    except UnicodeDecodeError as error:
        raise BadTable(path, 1, f"not UTF-8 text ({error.reason})") from error
