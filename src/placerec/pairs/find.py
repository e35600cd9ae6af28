"""Find the pairs of an index: each photo is the query once, and the others answer.

The stored descriptors of a photo are the query. So neither the trunk nor the photos are needed.
They have fewer patches than real queries, and in a small preset fewer bits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from placerec.errors import UsageError
from placerec.pairs import graph
from placerec.pairs.graph import Island, Names, Pair, PairGraph, islands_of
from placerec.photos.sphere import distance
from placerec.recognise.recognizer import PlaceRecognizer
from placerec.records import Features
from placerec.runtime import Progress, no_progress
from placerec.settings import require, require_number, require_whole
from placerec.workers import single_threaded_blas

TOP = 20

Pairs = dict[Names, Pair]


def find_pairs(
    recognizer: PlaceRecognizer,
    *,
    top: int = TOP,
    sequence: int = 0,
    sure: float | None = None,
    join: bool = False,
    far: float = graph.FAR,
    progress: Progress = no_progress,
) -> PairGraph:
    """Pair each photo with the ``top`` photos that answer it, and with its sequence.

    With a ``sequence`` of n, each photo is also paired with the next n of its folder, in the order
    of names. ``sure`` is the least confidence, 0 to 1, of an answer; the pairs of a sequence stay.
    A confidence is calibrated for queries, so with ``sure`` the photos are read and described
    again. With ``join`` the pairs also connect all islands. ``far`` are the metres beyond which an
    answer is a look-alike.

    Raises ``UsageError`` for a wrong number, or for ``sure`` if the answers have no confidence.
    """
    top, sequence = require_whole("top", top), require_whole("sequence", sequence, 0)
    require(require_number("far", far) >= 0, "far", f"at least 0 metres, not {far}")
    if sure is not None:
        require(0 <= require_number("sure", sure) <= 1, "sure", f"from 0 to 1, not {sure}")
    asker = _Asker(recognizer, progress)
    with single_threaded_blas():
        own = {name: (name,) for name in asker.names}
        answers = asker.ask("pairing photos", own, top, as_queries=sure is not None)
        pairs = {
            names: pair for names, pair in answers.items()
            if sure is None or (pair.confidence or 0.0) >= sure
        }  # fmt: skip
        for names in _in_sequence(asker.names, sequence):
            pairs[names] = answers.get(names) or asker.pair(*names)
        joins = _joins(asker, pairs)
    if join:
        pairs, joins = pairs | joins, {}
    order = {name: number for number, name in enumerate(asker.names)}
    ordered = tuple(sorted(pairs.values(), key=lambda p: (order[p.first], order[p.second])))
    return PairGraph(
        ordered, islands_of(asker.names, pairs), graph.best_first(joins.values()),
        graph.look_alikes(ordered, far), asker.blank,
    )  # fmt: skip


@dataclass(slots=True)
class _Asker:
    """Asks an index about its own photos. ``names`` are those that can be recognised."""

    recognizer: PlaceRecognizer
    progress: Progress
    names: tuple[str, ...] = field(init=False)
    blank: tuple[str, ...] = field(init=False)
    _rows: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        blank = self.recognizer.blank
        self._rows = {entry.name: row for row, entry in enumerate(self.recognizer.index.entries)}
        self.names = tuple(name for name, row in self._rows.items() if row not in blank)
        self.blank = tuple(name for name, row in self._rows.items() if row in blank)

    def ask(
        self, stage: str, islands: Mapping[str, Island], top: int, *, as_queries: bool = False
    ) -> Pairs:
        """Return pairs of each photo with the ``top`` photos that answer it.

        ``islands`` has, by the name of each photo to ask about, the photos that do not answer it.
        Of both directions the higher score counts. With ``as_queries`` the photos are described
        again, and each first answer must have a confidence.
        """
        pairs: Pairs = {}
        for done, (name, island) in enumerate(islands.items(), start=1):
            row, without = self._rows[name], {self._rows[other] for other in island}
            features = self._described(name) if as_queries else self._stored(row)
            answer = self.recognizer.answer(name, features, top, without)
            if as_queries and answer.places and answer.best.confidence is None:
                raise UsageError(
                    f"sure: the answers of this index have no confidence "
                    f"({answer.uncalibrated or 'it is not calibrated'}); build it again with more "
                    f"photos, or omit it"
                )
            for place in answer.places:
                confidence = place.confidence if as_queries else None
                pair = self.pair(name, place.path, place.score, confidence)
                both = pair.first, pair.second
                if both not in pairs or (pairs[both].score or 0.0) < place.score:
                    pairs[both] = pair
            self.progress(stage, done, len(islands))
        return pairs

    def pair(
        self, name: str, other: str, score: float | None = None, confidence: float | None = None
    ) -> Pair:
        """Return two photos as a pair, in the order of names."""
        rows = sorted((self._rows[name], self._rows[other]))
        first, second = (self.recognizer.index.entries[row] for row in rows)
        metres = None
        if first.position and second.position:
            metres = distance(first.position, second.position)
        return Pair(first.name, second.name, score, confidence, metres)

    def _stored(self, row: int) -> Features:
        return self.recognizer.stored(row)

    def _described(self, name: str) -> Features:
        photo = self.recognizer.read(self.recognizer.index.photo_path(name))
        return self.recognizer.describe(photo.pixels)


def _in_sequence(names: Sequence[str], count: int) -> Iterator[Names]:
    """Yield each name with the next ``count`` names of its folder."""
    folders: dict[PurePosixPath, list[str]] = defaultdict(list)
    for name in names:
        folders[PurePosixPath(name).parent].append(name)
    for members in folders.values():
        for number, name in enumerate(members):
            for other in members[number + 1 : number + 1 + count]:
                yield name, other


def _joins(asker: _Asker, pairs: Collection[Names]) -> Pairs:
    """Return the best pair of each photo to a photo of another island.

    The largest island does not ask. If the others only join each other, they ask again as one.
    """
    joins: Pairs = {}
    while others := islands_of(asker.names, [*pairs, *joins])[1:]:
        own = {name: island for island in others for name in island}
        before = len(joins)
        joins |= asker.ask("joining islands", own, 1)
        if len(joins) == before:
            break
    return joins
