"""A choice of queries, distractors, and foreign photos.

Distractors are photos in the database that answer no query. They and a choice of queries change the
protocol's name and the hash of the data set. Foreign photos are queries that have no answer; they
change neither, because no recall counts them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from placerec.errors import BadTable, NotFound, UsageError
from placerec.evaluation.dataset import Dataset, Photos, joined
from placerec.evaluation.predictions import FOREIGN
from placerec.files import file_sha256, path_of, paths_of
from placerec.photos.find import find_photos
from placerec.photos.tables import read_lines, read_table

HALVES = ("validation", "test")
SEED = 0
SHOWN = 3  # unknown names in a message
FORM = "a list of query names, one a line, or a CSV file with the column query"


def select_queries(
    dataset: Dataset, table: str | Path | None = None, half: str | None = None
) -> Dataset:
    """Keep the queries of a list: plain text with one name a line, or a CSV file.

    A CSV file has the column query, and also the column half if ``half`` is given. Names are those
    of the data set. Raises ``BadTable`` with the lines of the names that are not.
    """
    if half not in (None, *HALVES):
        raise UsageError(f"half {half!r}: choose {' or '.join(HALVES)}")
    if table is None:
        if half is not None:
            raise UsageError("half: needs queries_list, a CSV file with the columns query,half")
        return dataset
    table = Path(table)
    names = {name for search in dataset.searches for name in search.queries.names}
    listed = list(_listed(table, half))
    unknown = [(line, name) for line, name, _ in listed if name not in names]
    if unknown:
        (first, name), *more = unknown
        also = "".join(f"; line {line}: {name}" for line, name in more[: SHOWN - 1])
        also += f"; {len(unknown)} such lines" if len(unknown) > SHOWN else ""
        raise BadTable(table, first, f"{name} is not a query of this data set{also}")
    selected = [name for _, name, part in listed if half in (None, part)]
    if not selected:
        raise NotFound(table, f"no query in it{f' of the {half} half' if half else ''}")
    return dataset.with_queries(selected, f"{half} half of {table.name}" if half else table.name)


def _listed(table: Path, half: str | None) -> Iterator[tuple[int, str, str]]:
    """Yield the line, the name and the half ("" if not asked for) of each query in a list."""
    lines = list(read_lines(table, FORM))
    columns = [cell.strip() for cell in lines[0][1].split(",")] if lines else []
    if "query" in columns or (half and lines):
        for line, row in read_table(table, ("query", "half") if half else ("query",)):
            yield line, row["query"], row["half"] if half else ""
        return
    for line, name in lines:
        yield line, name, ""


def sample_queries(dataset: Dataset, count: int | None) -> Dataset:
    """Keep a random sample of ``count`` queries of all searches, with a fixed seed."""
    if count is None or count >= dataset.queries:
        return dataset
    names = [name for search in dataset.searches for name in search.queries.names]
    rows = np.random.default_rng(SEED).permutation(len(names))[:count]
    return dataset.with_queries([names[row] for row in rows], f"{count} queries, seed {SEED}")


def with_distractors(dataset: Dataset, folders: str | Path | Iterable[str | Path]) -> Dataset:
    """Append all photos below ``folders`` to every database; each file only once.

    Their names begin with a slash, which no other photo name does. The protocol's rule contains a
    digest of the files. Raises ``UsageError`` if a distractor has the same bytes as a photo of the
    data set, because it may be a correct answer.
    """
    groups: list[Photos] = []
    resolved: set[Path] = set()
    for number, folder in enumerate(paths_of(folders), start=1):
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
    _refuse_photos_of(dataset, dict(zip(digests, distractors.paths, strict=True)), "distractors")
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


def foreign_photos(dataset: Dataset, folder: str | Path) -> Photos:
    """Return all photos below ``folder``, which show no place of ``dataset``.

    Their names begin with ``FOREIGN``. Raises ``NotFound`` if there is none, and ``UsageError`` if
    one has the same bytes as a photo of the data set.
    """
    folder = path_of(folder)
    names = find_photos(folder)
    if not names:
        raise NotFound(folder, "no photo in it", "give a folder of photos from elsewhere")
    paths = tuple(folder / name for name in names)
    digests = {file_sha256(path): path for path in paths}
    _refuse_photos_of(dataset, digests, "foreign photos")
    return Photos(tuple(FOREIGN + name for name in names), paths)


def _refuse_photos_of(dataset: Dataset, others: dict[str, Path], role: str) -> None:
    """Compare by size first: reading a database of many gigabytes is slow."""
    sizes = {path.stat().st_size for path in others.values()}
    for search in dataset.searches:
        for side, photos in (("database photo", search.database), ("query", search.queries)):
            for name, path in zip(photos.names, photos.paths, strict=True):
                if not path.is_file() or path.stat().st_size not in sizes:
                    continue
                other = others.get(file_sha256(path))
                if other is not None:
                    raise UsageError(
                        f"{other}: is the {side} {name} of {dataset.name}; remove it from the "
                        f"{role}"
                    )
