"""How the time between two photos changes what their places say about each other.

Most photos of a walk are near the one taken before; a few are taken from a vehicle, and some are
anywhere: a camera clock that is wrong, a photo that another person took. A place within reach is
likelier than before, by as much as reach is small beside the map; a place out of reach is less
likely. The photos of a day on a small map say nothing about each other: all is within reach.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Self

from placerec.photos.find import evenly_spread
from placerec.photos.sphere import distance
from placerec.records import Position

SPEEDS = {1.5: 0.6, 15.0: 0.3}  # metres a second: the share of photos that are reached so
ANYWHERE = 0.1  # the share of the others
STANDING = 50.0  # metres from one place to another that shows the same from there
MOST_ODDS = 10.0  # one photo changes the odds of a place by this factor, or by its inverse
SAMPLE = 200  # positions whose distances stand for those of the whole map


@dataclass(frozen=True, slots=True)
class Travel:
    """The sorted ``distances`` between positions of the map, in metres."""

    distances: tuple[float, ...] = field(repr=False)

    @classmethod
    def over(cls, positions: Sequence[Position]) -> Self:
        """Return what is needed of the positions of a map."""
        some = [positions[number] for number in evenly_spread(len(positions), SAMPLE)]
        return cls(tuple(sorted(distance(one, two) for one, two in combinations(some, 2))))

    def odds(self, metres: float, seconds: float) -> float:
        """Return the factor for a place ``metres`` from that of a photo taken ``seconds`` apart.

        1 is: the time says nothing. It lies between 1/10 and 10.
        """
        odds = ANYWHERE
        for reach, share in zip(reaches(seconds), SPEEDS.values(), strict=True):
            if metres <= reach:
                odds += share / self.share_within(reach)
        return min(odds, MOST_ODDS)

    def share_within(self, metres: float) -> float:
        """Return the share of pairs of places that are at most ``metres`` apart; never 0."""
        pairs = len(self.distances)
        return max(1, bisect_right(self.distances, metres)) / max(1, pairs)


def reaches(seconds: float) -> list[float]:
    """Return how many metres each speed of ``SPEEDS`` comes in this time, before or after."""
    return [STANDING + speed * abs(seconds) for speed in SPEEDS]
