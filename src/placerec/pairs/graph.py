"""What pairs connect: islands of photos, and look-alikes that lie far apart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

NEAR, FAR = 25.0, 100.0  # metres between two photos of one place, and of two places

Names = tuple[str, str]
Island = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two photos by their names, in the order of all names.

    ``score`` and ``confidence`` are those of ``Place``, of the direction with the higher score.
    There is a confidence only if it was asked for, and neither for a pair that only a sequence
    gives. ``metres`` is the distance of the two positions, ``None`` if a photo has none.
    """

    first: str
    second: str
    score: float | None = None
    confidence: float | None = None
    metres: float | None = None


@dataclass(frozen=True, slots=True)
class PairGraph:
    """The pairs of an index, in the order of their names, each once.

    ``islands`` are the names of photos that pairs connect, the largest island first; a photo
    without a pair is an island. ``joins`` are pairs that would connect all islands: of each photo
    outside of the largest island its best answer in another one, the highest score first. They are
    not in ``pairs``. ``look_alikes`` are the pairs of high score whose photos lie far apart,
    the highest score first. ``blank`` are the photos without structure, which are in no pair.
    """

    pairs: tuple[Pair, ...]
    islands: tuple[Island, ...] = ()
    joins: tuple[Pair, ...] = ()
    look_alikes: tuple[Pair, ...] = ()
    blank: tuple[str, ...] = ()


def islands_of(names: Iterable[str], pairs: Iterable[Names]) -> tuple[Island, ...]:
    """Return the groups of ``names`` that ``pairs`` connect: largest first, else in their order."""
    group = {name: [name] for name in names}
    order = {name: number for number, name in enumerate(group)}
    for names_of_pair in pairs:
        small, large = sorted((group[name] for name in names_of_pair), key=len)
        if small is not large:
            large += small
            group.update(dict.fromkeys(small, large))
    groups = {id(members): members for members in group.values()}.values()
    islands = (tuple(sorted(members, key=order.__getitem__)) for members in groups)
    return tuple(sorted(islands, key=lambda island: (-len(island), order[island[0]])))


def look_alikes(pairs: Iterable[Pair], far: float = FAR) -> tuple[Pair, ...]:
    """Return the pairs of high score that lie more than ``far`` metres apart, highest score first.

    A score is high if it reaches the median of what each photo has with its best photo within
    25 m. So there is no look-alike if no two photos are that near.
    """
    placed = [
        (pair.score, pair.metres, pair)
        for pair in pairs
        if pair.score is not None and pair.metres is not None
    ]
    best: dict[str, float] = {}
    for score, metres, pair in placed:
        for name in (pair.first, pair.second) if metres <= NEAR else ():
            best[name] = max(score, best.get(name, score))
    if not best:
        return ()
    high = median(best.values())
    return best_first(pair for score, metres, pair in placed if metres > far and score >= high)


def best_first(pairs: Iterable[Pair]) -> tuple[Pair, ...]:
    """Return pairs by their score, the highest first."""
    return tuple(sorted(pairs, key=lambda pair: -(pair.score or 0.0)))
