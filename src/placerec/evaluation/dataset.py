"""A data set as the evaluation sees it: photos, what is known of them, and who answers whom.

``datasets/`` fills these records from the layouts that the owners publish; everything after that
(``evaluate``, ``scoring``, ``report``, ``reproduce/``, training's validation) reads only these.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from placerec.errors import UsageError
from placerec.records import Array


@dataclass(frozen=True)
class Photos:
    """One side of a search: n photos in a fixed order, and what is known of each.

    ``names`` are unique and as the owner's lists write them (relative posix paths); they go into
    predictions and hashes. ``paths`` are the files. ``positions`` (n, 3) float64 metres as in
    ``places``; ``headings`` (n,) float64 degrees clockwise from north; ``poses`` (n, 4, 4) float64,
    camera to world: NaN where unknown, ``None`` where no photo has one. ``places`` are n labels:
    photos of one place are no independent trials; ``conditions`` are n labels that tables are split
    by (night, snow); both empty where there are none.
    """

    names: tuple[str, ...]
    paths: tuple[Path, ...] = field(repr=False)
    positions: Array | None = field(default=None, repr=False)
    headings: Array | None = field(default=None, repr=False)
    poses: Array | None = field(default=None, repr=False)
    places: tuple[str, ...] = field(default=(), repr=False)
    conditions: tuple[str, ...] = field(default=(), repr=False)

    def __len__(self) -> int:
        return len(self.names)

    def chosen(self, numbers: Sequence[int]) -> Photos:
        """The photos with these numbers, in this order."""
        rows = list(numbers)

        def array(values: Array | None) -> Array | None:
            return None if values is None else values[rows]

        def labels(values: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(values[n] for n in rows) if values else ()

        return Photos(
            tuple(self.names[n] for n in rows), tuple(self.paths[n] for n in rows),
            array(self.positions), array(self.headings), array(self.poses),
            labels(self.places), labels(self.conditions),
        )  # fmt: skip


@dataclass(frozen=True)
class Search:
    """One database that is searched by its queries.

    ``positives``: for each query the numbers of the database photos that answer it; may be empty.
    The last ``distractors`` photos of the database joined it from elsewhere and answer nothing.
    """

    name: str
    queries: Photos
    database: Photos
    positives: tuple[frozenset[int], ...] = field(repr=False)
    distractors: int = 0

    @property
    def own_names(self) -> tuple[str, ...]:
        """The names of the database photos that are no distractors."""
        return self.database.names[: len(self.database) - self.distractors]

    @cached_property
    def answers(self) -> dict[str, frozenset[str]]:
        """The names of the database photos that answer each query."""
        names = self.database.names
        return {
            query: frozenset(names[number] for number in numbers)
            for query, numbers in zip(self.queries.names, self.positives, strict=True)
        }


@dataclass(frozen=True)
class Protocol:
    """By which rule an answer counts; ``name`` is unique among all protocols.

    ``rule`` says in words what a positive is. ``photos_a_panorama``: of so many consecutive
    database photos only the best one stays on a shortlist (12 for Tokyo 24/7). ``hidden``: the
    owner keeps the truth, so a run only writes what is to be handed in. ``poses``: answers are also
    judged by the pose of the first photo.
    """

    name: str
    rule: str
    photos_a_panorama: int = 1
    hidden: bool = False
    poses: bool = False


@dataclass(frozen=True)
class Dataset:
    """Photos and a protocol. Most sets are one search; Mapillary SLS is one a city."""

    name: str
    protocol: Protocol
    searches: tuple[Search, ...]

    @cached_property
    def queries(self) -> int:
        """How many queries there are in all searches."""
        return sum(len(search.queries) for search in self.searches)

    @cached_property
    def hash(self) -> str:
        """sha256 (hex) of protocol, names, positives, and poses where they judge.

        Equal hashes, comparable recalls.

        Neither where the photos lie nor what they show enters it; of distractors, which no owner's
        list names, what their files hold does, through the rule.
        """
        digest = hashlib.sha256()
        rule = self.protocol
        _add(digest, [rule.name, rule.rule, rule.photos_a_panorama, rule.hidden, rule.poses])
        for search in self.searches:
            _add(digest, [search.name, search.distractors])
            _add(digest, search.queries.names)
            _add(digest, search.database.names)
            for numbers in search.positives:
                _add(digest, sorted(numbers))
            if rule.poses:  # answers are judged by them
                for photos in (search.queries, search.database):
                    known = photos.poses
                    _add(
                        digest, [] if known is None else (np.round(known, 6) + 0.0).ravel().tolist()
                    )
        return digest.hexdigest()

    def with_queries(self, names: Iterable[str], label: str) -> Dataset:
        """Only the queries ``names``, in the set's order; ``label`` joins the protocol's name."""
        wanted = set(names)
        searches = []
        for search in self.searches:
            rows = [n for n, name in enumerate(search.queries.names) if name in wanted]
            wanted -= {search.queries.names[n] for n in rows}
            positives = tuple(search.positives[n] for n in rows)
            searches.append(
                replace(search, queries=search.queries.chosen(rows), positives=positives)
            )
        if wanted:
            raise UsageError(f"query {sorted(wanted)[0]}: not in {self.name}; check the list")
        protocol = replace(self.protocol, name=f"{self.protocol.name}, {label}")
        return replace(self, protocol=protocol, searches=tuple(s for s in searches if s.positives))

    def with_distractors(self, photos: Sequence[Photos], label: str, content: str) -> Dataset:
        """The same with photos that answer nothing behind the database of every search.

        ``label`` joins the protocol's name, and with ``content``, a digest of them, its rule.
        """
        searches = []
        for search in self.searches:
            more = [one for one in photos if len(one)]
            database = joined([search.database, *more])
            count = len(database) - len(search.database)
            searches.append(
                replace(search, database=database, distractors=search.distractors + count)
            )
        protocol = replace(
            self.protocol,
            name=f"{self.protocol.name}, {label}",
            rule=f"{self.protocol.rule}; {label} ({content}) answer nothing",
        )
        return replace(self, protocol=protocol, searches=tuple(searches))


def joined(parts: Sequence[Photos]) -> Photos:
    """Several groups of photos as one; what only some of them know becomes NaN or empty text."""

    def rows(name: str, shape: tuple[int, ...]) -> Array | None:
        if all(getattr(part, name) is None for part in parts):
            return None
        unknown = (np.full((len(part), *shape), np.nan) for part in parts)
        return np.concatenate([
            blank if (known := getattr(part, name)) is None else known
            for part, blank in zip(parts, unknown, strict=True)
        ])  # fmt: skip

    def labels(name: str) -> tuple[str, ...]:
        if not any(getattr(part, name) for part in parts):
            return ()
        return tuple(
            label for part in parts for label in getattr(part, name) or [""] * len(part)
        )  # fmt: skip

    return Photos(
        tuple(name for part in parts for name in part.names),
        tuple(path for part in parts for path in part.paths),
        rows("positions", (3,)), rows("headings", ()), rows("poses", (4, 4)),
        labels("places"), labels("conditions"),
    )  # fmt: skip


def _add(digest: hashlib._Hash, values: Iterable[object]) -> None:
    text = json.dumps(list(values), ensure_ascii=True)
    digest.update(text.encode("ascii") + b"\n")
