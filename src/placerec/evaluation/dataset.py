"""The records of a data set: photos, searches with their ground truth, and a protocol.

``layouts/`` fills these records from the files of a data set. Evaluation, scoring, reports,
``reproduce/`` and the validation of training read only these records.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from placerec.errors import UsageError
from placerec.records import Array

ARRAYS = {"positions": (3,), "headings": (), "poses": (4, 4)}  # shapes of the values of a photo


@dataclass(frozen=True)
class Photos:
    """The queries or the database of a search: n photos in a fixed order.

    ``names`` are unique relative posix paths, as the data set's lists write them; predictions and
    hashes contain them. ``paths`` are the files. ``positions`` (n, 3) float64 are points in metres
    (``geometry``), ``headings`` (n,) float64 degrees clockwise from north, ``poses`` (n, 4, 4)
    float64 matrices from camera to world. An unknown value is NaN; the array is ``None`` if all
    values are unknown. ``place_labels``: photos of one place share a label, because they are not
    independent samples. ``conditions``: n labels such as night or snow. Both may be empty.
    """

    names: tuple[str, ...]
    paths: tuple[Path, ...] = field(repr=False)
    positions: Array | None = field(default=None, repr=False)
    headings: Array | None = field(default=None, repr=False)
    poses: Array | None = field(default=None, repr=False)
    place_labels: tuple[str, ...] = field(default=(), repr=False)
    conditions: tuple[str, ...] = field(default=(), repr=False)

    def __len__(self) -> int:
        return len(self.names)

    def select(self, rows: Sequence[int]) -> Photos:
        """Return the photos of these rows, in this order."""

        def selected(values: Any) -> Any:
            if isinstance(values, tuple):
                return tuple(values[row] for row in rows) if values else ()
            return None if values is None else values[list(rows)]

        return Photos(*(selected(getattr(self, column.name)) for column in fields(self)))


@dataclass(frozen=True)
class Search:
    """One database, its queries and their ground truth.

    ``positives``: for each query the rows of the database photos that answer it; may be empty.
    The last ``distractors`` photos of the database come from elsewhere and answer no query.
    """

    name: str
    queries: Photos
    database: Photos
    positives: tuple[frozenset[int], ...] = field(repr=False)
    distractors: int = 0

    @property
    def own_names(self) -> tuple[str, ...]:
        """The names of the database photos without the distractors."""
        return self.database.names[: len(self.database) - self.distractors]

    @cached_property
    def answers(self) -> dict[str, frozenset[str]]:
        """The names of the database photos that answer each query."""
        names = self.database.names
        return {
            query: frozenset(names[row] for row in rows)
            for query, rows in zip(self.queries.names, self.positives, strict=True)
        }


@dataclass(frozen=True)
class Protocol:
    """The rule that decides which answers are correct; ``name`` is unique among all protocols.

    ``rule`` describes a positive in words. ``photos_a_panorama``: only the best photo of so many
    consecutive database photos stays on a shortlist (12 for Tokyo 24/7). ``hidden``: the owner of
    the data set does not publish the ground truth, so a run only writes a file to submit.
    ``poses``: the pose of the first answer is scored too.
    """

    name: str
    rule: str
    photos_a_panorama: int = 1
    hidden: bool = False
    poses: bool = False


@dataclass(frozen=True)
class Dataset:
    """Searches and a protocol. Most data sets have one search; Mapillary SLS has one per city."""

    name: str
    protocol: Protocol
    searches: tuple[Search, ...]

    @cached_property
    def queries(self) -> int:
        """The number of queries of all searches."""
        return sum(len(search.queries) for search in self.searches)

    @cached_property
    def hash(self) -> str:
        """sha256 (hex) of the protocol, names, positives and, if the protocol uses them, poses.

        Recalls are comparable only if the hashes are equal. The hash does not depend on the
        folder or on the content of the photos. Exception: the protocol's rule contains a digest
        of the distractors, because no published list names them.
        """
        digest = hashlib.sha256()
        rule = self.protocol
        _add(digest, [rule.name, rule.rule, rule.photos_a_panorama, rule.hidden, rule.poses])
        for search in self.searches:
            _add(digest, [search.name, search.distractors])
            _add(digest, search.queries.names)
            _add(digest, search.database.names)
            for rows in search.positives:
                _add(digest, sorted(rows))
            if rule.poses:
                for poses in (search.queries.poses, search.database.poses):
                    rounded = [] if poses is None else (np.round(poses, 6) + 0.0).ravel().tolist()
                    _add(digest, rounded)
        return digest.hexdigest()

    def with_queries(self, names: Iterable[str], label: str) -> Dataset:
        """Keep only the queries ``names``, in the data set's order.

        The protocol's name gets the suffix ``label``. Raises ``UsageError`` for an unknown query.
        """
        wanted = set(names)
        searches = []
        for search in self.searches:
            rows = [row for row, name in enumerate(search.queries.names) if name in wanted]
            wanted.difference_update(search.queries.names)
            positives = tuple(search.positives[row] for row in rows)
            queries = search.queries.select(rows)
            searches.append(replace(search, queries=queries, positives=positives))
        if wanted:
            raise UsageError(f"query {min(wanted)}: not in {self.name}; check the list")
        protocol = replace(self.protocol, name=f"{self.protocol.name}, {label}")
        return replace(self, protocol=protocol, searches=tuple(s for s in searches if s.positives))


def joined(parts: Sequence[Photos]) -> Photos:
    """Join groups of photos; a value that only some groups have becomes NaN or an empty text."""
    columns: dict[str, Any] = {"names": (), "paths": ()}
    for column in fields(Photos):
        name, values = column.name, [getattr(part, column.name) for part in parts]
        if name not in ARRAYS and any(values):
            texts = (text or [""] * len(part) for part, text in zip(parts, values, strict=True))
            columns[name] = tuple(chain.from_iterable(texts))
        elif name in ARRAYS and any(value is not None for value in values):
            columns[name] = np.concatenate([
                np.full((len(part), *ARRAYS[name]), np.nan) if value is None else value
                for part, value in zip(parts, values, strict=True)
            ])  # fmt: skip
    return Photos(**columns)


def _add(digest: hashlib._Hash, values: Iterable[object]) -> None:
    text = json.dumps(list(values), ensure_ascii=True)
    digest.update(text.encode("ascii") + b"\n")
