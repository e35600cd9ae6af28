"""Which queries are asked, and which photos join the database without being an answer.

A shorter list of queries is another protocol: it joins the protocol's name, and its hash is another
one. So are distractors, by what their files hold: no owner's list stands for them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from placerec.errors import BadTable, NotFound, UsageError
from placerec.evaluation.dataset import Dataset, Photos
from placerec.files import file_sha256
from placerec.photos.find import find_photos
from placerec.photos.tables import read_table

HALVES = ("validation", "test")
SEED = 0


def listed(dataset: Dataset, table: Path | None = None, half: str | None = None) -> Dataset:
    """The queries of a CSV file with a column query (and half, where one ``half`` is asked for)."""
    if half not in (None, *HALVES):
        raise UsageError(f"half {half!r}: choose {' or '.join(HALVES)}")
    if table is None:
        if half is not None:
            raise UsageError("half: needs --queries-list, a CSV file with the columns query,half")
        return dataset
    known = {name for search in dataset.searches for name in search.queries.names}
    chosen = []
    for line, row in read_table(table, ("query", "half") if half else ("query",)):
        if row["query"] not in known:
            raise BadTable(table, line, f"{row['query']} is no query of this data set")
        if half is None or row["half"] == half:
            chosen.append(row["query"])
    if not chosen:
        raise NotFound(table, f"no query in it{f' of the {half} half' if half else ''}")
    return dataset.with_queries(chosen, f"{half} half of {table.name}" if half else table.name)


def sampled(dataset: Dataset, count: int | None) -> Dataset:
    """A seeded choice of ``count`` queries (all where there are not more), from all searches."""
    if count is None or count >= dataset.queries:
        return dataset
    names = [name for search in dataset.searches for name in search.queries.names]
    some = np.random.default_rng(SEED).permutation(len(names))[:count]
    return dataset.with_queries([names[n] for n in some.tolist()], f"{count} queries, seed {SEED}")


def with_distractors(dataset: Dataset, folders: Iterable[Path]) -> Dataset:
    """All photos below ``folders`` behind every database; a file that comes twice joins once.

    Their names begin with a slash, which no name of a data set does. Raises ``UsageError`` where
    one of them is also a photo of the data set (the same bytes): in a database it may be a right
    answer, and a query would find itself.
    """
    groups, contents, seen = [], [], set()
    for number, folder in enumerate(folders, start=1):
        names = [name for name in find_photos(folder) if (folder / name).resolve() not in seen]
        if not names:
            raise NotFound(folder, "no photo in it that did not come before", "give other photos")
        paths = tuple(folder / name for name in names)
        seen |= {path.resolve() for path in paths}
        contents += [file_sha256(path) for path in paths]
        groups.append(Photos(tuple(f"/distractors-{number}/{name}" for name in names), paths))
    if not groups:
        return dataset
    _refuse_own(dataset, dict(zip(contents, (p for g in groups for p in g.paths), strict=True)))
    told = hashlib.sha256("".join(contents).encode("ascii")).hexdigest()
    return dataset.with_distractors(groups, f"{len(contents)} distractors", f"sha256 {told[:16]}")


def _refuse_own(dataset: Dataset, distractors: dict[str, Path]) -> None:
    """Files of another size are not read: a database may be of many gigabytes."""
    sizes = {path.stat().st_size for path in distractors.values()}
    for search in dataset.searches:
        for side, photos in (("database photo", search.database), ("query", search.queries)):
            for name, path in zip(photos.names, photos.paths, strict=True):
                if path.is_file() and path.stat().st_size in sizes:
                    same = distractors.get(file_sha256(path))
                    if same is not None:
                        raise UsageError(
                            f"{same}: is the {side} {name} of {dataset.name}; leave it out of the "
                            "distractors"
                        )
