"""A choice of queries, and distractors: photos in the database that answer no query.

Both change the protocol's name and the hash of the data set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from placerec.errors import BadTable, NotFound, UsageError
from placerec.evaluation.dataset import Dataset, Photos, joined
from placerec.files import file_sha256
from placerec.photos.find import find_photos
from placerec.photos.tables import read_table

HALVES = ("validation", "test")
SEED = 0


def select_queries(dataset: Dataset, table: Path | None = None, half: str | None = None) -> Dataset:
    """Keep the queries of a CSV file with the column query (and half, if ``half`` is given)."""
    if half not in (None, *HALVES):
        raise UsageError(f"half {half!r}: choose {' or '.join(HALVES)}")
    if table is None:
        if half is not None:
            raise UsageError("half: needs queries_list, a CSV file with the columns query,half")
        return dataset
    names = {name for search in dataset.searches for name in search.queries.names}
    selected = []
    for line, row in read_table(table, ("query", "half") if half else ("query",)):
        if row["query"] not in names:
            raise BadTable(table, line, f"{row['query']} is not a query of this data set")
        if half is None or row["half"] == half:
            selected.append(row["query"])
    if not selected:
        raise NotFound(table, f"no query in it{f' of the {half} half' if half else ''}")
    return dataset.with_queries(selected, f"{half} half of {table.name}" if half else table.name)


def sample_queries(dataset: Dataset, count: int | None) -> Dataset:
    """Keep a random sample of ``count`` queries of all searches, with a fixed seed."""
    if count is None or count >= dataset.queries:
        return dataset
    names = [name for search in dataset.searches for name in search.queries.names]
    rows = np.random.default_rng(SEED).permutation(len(names))[:count]
    return dataset.with_queries([names[row] for row in rows], f"{count} queries, seed {SEED}")


def with_distractors(dataset: Dataset, folders: Iterable[Path]) -> Dataset:
    """Append all photos below ``folders`` to every database; each file only once.

    Their names begin with a slash, which no other photo name does. The protocol's rule contains a
    digest of the files. Raises ``UsageError`` if a distractor has the same bytes as a photo of the
    data set, because it may be a correct answer.
    """
    groups: list[Photos] = []
    resolved: set[Path] = set()
    for number, folder in enumerate(folders, start=1):
        names = [name for name in find_photos(folder) if (folder / name).resolve() not in resolved]
        if not names:
            raise NotFound(folder, "no photo that is not in an earlier folder", "give others")
        paths = tuple(folder / name for name in names)
        resolved |= {path.resolve() for path in paths}
        groups.append(Photos(tuple(f"/distractors-{number}/{name}" for name in names), paths))
    if not groups:
        return dataset
    distractors = joined(groups)
    digests = [file_sha256(path) for path in distractors.paths]
    _refuse_photos_of(dataset, dict(zip(digests, distractors.paths, strict=True)))
    content = hashlib.sha256("".join(digests).encode("ascii")).hexdigest()[:16]
    label = f"{len(digests)} distractors"
    protocol = replace(
        dataset.protocol,
        name=f"{dataset.protocol.name}, {label}",
        rule=f"{dataset.protocol.rule}; {label} (sha256 {content}) answer nothing",
    )
    searches = []
    for search in dataset.searches:
        database = joined([search.database, distractors])
        count = search.distractors + len(distractors)
        searches.append(replace(search, database=database, distractors=count))
    return replace(dataset, protocol=protocol, searches=tuple(searches))


def _refuse_photos_of(dataset: Dataset, distractors: dict[str, Path]) -> None:
    """Compare by size first: reading a database of many gigabytes is slow."""
    sizes = {path.stat().st_size for path in distractors.values()}
    for search in dataset.searches:
        for side, photos in (("database photo", search.database), ("query", search.queries)):
            for name, path in zip(photos.names, photos.paths, strict=True):
                if not path.is_file() or path.stat().st_size not in sizes:
                    continue
                distractor = distractors.get(file_sha256(path))
                if distractor is not None:
                    raise UsageError(
                        f"{distractor}: is the {side} {name} of {dataset.name}; remove it "
                        "from the distractors"
                    )
