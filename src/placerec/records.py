"""The frozen records that pass between rooms.

One photo becomes a ``Photo`` (photos), its ``Features`` (models), a row of the index, and, for a
query, a list of ``Place`` in an ``Answer`` (recognise). Conventions used everywhere: images are
(height, width, 3) uint8 RGB; sizes are (height, width); a grid position is (row, column) in
feature cells; descriptors are rows of unit L2 length; similarities are cosines, larger is better.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from placerec.errors import PlacerecError

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Position:
    """Where a photo was taken: WGS 84 degrees, heading in degrees clockwise from north."""

    latitude: float
    longitude: float
    heading: float | None = None


@dataclass(frozen=True, slots=True)
class Where:
    """Where a query was taken: a position, and how far off it may be.

    ``radius_68`` and ``radius_95`` are metres: the true position is within them for 68 and 95 of
    100 answers of this confidence.
    """

    position: Position
    radius_68: float
    radius_95: float


class _HasArrays:
    """A record with arrays: equal if all arrays have equal shapes and values; not hashable."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        names = [field.name for field in fields(self)]  # type: ignore[arg-type]
        values = ((getattr(self, name), getattr(other, name)) for name in names)
        return all(
            np.array_equal(one, two) if isinstance(one, np.ndarray) else one == two
            for one, two in values
        )


@dataclass(frozen=True, slots=True, eq=False)
class Photo(_HasArrays):
    """One decoded photo: upright pixels (H, W, 3) uint8 RGB, the file's sha256, its metadata.

    ``position`` is from EXIF or XMP. ``taken`` is the capture time; it has a time zone only if the
    camera stored one. ``gps_damaged`` is true if there is a GPS tag whose value cannot be right,
    and so no position.
    """

    path: str
    sha256: str
    pixels: Array = field(repr=False)
    position: Position | None = None
    taken: datetime | None = None
    gps_damaged: bool = False


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the patches of one size lie: rows x columns patches of ``size``, ``stride`` apart.

    ``size`` is (height, width) and ``stride`` the step, both in feature cells; patches are numbered
    row by row.
    """

    size: tuple[int, int]
    rows: int
    columns: int
    stride: int

    @property
    def reach(self) -> Array:
        """Position of the last patch (2,) int64: the largest x and y of ``corners``."""
        return np.array((self.columns - 1, self.rows - 1)) * self.stride

    def corners(self, numbers: Array) -> Array:
        """Position (n, 2) int64 of the patches ``numbers`` (n,): x and y of the first cell."""
        row, column = np.divmod(np.asarray(numbers), self.columns)
        return np.stack((column, row), axis=-1) * self.stride

    def __len__(self) -> int:
        """The number of patches."""
        return self.rows * self.columns

    def boxes(self, numbers: Array) -> Array:
        """Left, top, right, bottom of the patches ``numbers`` (n,) as fractions of the photo."""
        size = np.array(self.size[::-1])
        first = self.corners(numbers)
        edges = np.concatenate((first, first + size), axis=-1)
        fractions: Array = edges / np.tile(self.reach + size, 2)
        return fractions


@dataclass(frozen=True, slots=True, eq=False)
class PatchSet(_HasArrays):
    """The patch descriptors of one photo at one patch size.

    ``descriptors`` is (n, D) float32 in the order of ``grid``; each row has unit length, or is all
    zero (a blank patch).
    """

    grid: Grid
    descriptors: Array = field(repr=False)

    @property
    def blank(self) -> int:
        """The number of blank patches."""
        return len(self.grid) - int(np.count_nonzero(self.descriptors.any(axis=1)))

    def checkered(self) -> PatchSet:
        """Return the set with every second patch blank, as the squares of a chessboard."""
        row, column = np.divmod(np.arange(len(self.grid)), self.grid.columns)
        black = (row + column) % 2 == 0
        return PatchSet(self.grid, np.where(black[:, None], self.descriptors, 0))


@dataclass(frozen=True, slots=True, eq=False)
class Features(_HasArrays):
    """The descriptors of one photo: global (G,) float32, and one ``PatchSet`` per patch size.

    ``retrieval_descriptor`` (R,) float32 is that of the retriever that an index may have.
    """

    global_descriptor: Array = field(repr=False)
    patches: tuple[PatchSet, ...] = ()
    retrieval_descriptor: Array | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Match(_HasArrays):
    """How one patch size of a candidate agrees with the query.

    ``score`` is larger for a better agreement. ``pairs`` is (M, 2) int64: query patch and database
    patch of each mutual match that the scorer counts as an inlier.
    """

    score: float
    pairs: Array = field(repr=False)
    query_grid: Grid
    database_grid: Grid

    @property
    def inliers(self) -> int:
        """The number of matches that agree with each other."""
        return len(self.pairs)


@dataclass(frozen=True, slots=True)
class Place:
    """One answer: a database photo with its scores.

    ``score`` orders the answers (its range depends on the scorer), ``global_score`` is the cosine
    of the global descriptors. ``matches`` holds one ``Match`` per patch size; it is empty if only
    the global descriptors were compared. ``confidence`` is the calibrated probability, 0..1, that
    the query shows this place; ``None`` if the index has no calibration.
    """

    rank: int
    path: str
    score: float
    global_score: float
    position: Position | None = None
    matches: tuple[Match, ...] = field(default=(), repr=False)
    confidence: float | None = None

    @property
    def inliers(self) -> int | None:
        """The number of agreeing patch matches over all sizes; ``None`` without patches."""
        return sum(match.inliers for match in self.matches) if self.matches else None


@dataclass(frozen=True, slots=True)
class Answer:
    """The ranked places of one query, best first.

    ``note`` says why there is no place; it is empty if there is one. ``in_map`` is whether the
    query shows a place of the index at all, and ``where`` its own position, fused from the places
    that agree; ``None`` if the index has no calibration or no positions. ``uncalibrated`` says why
    there is no confidence; it is empty if there is one.
    """

    query: str
    places: tuple[Place, ...]
    note: str = ""
    in_map: bool | None = None
    where: Where | None = None
    uncalibrated: str = ""

    def __len__(self) -> int:
        return len(self.places)

    @property
    def best(self) -> Place:
        """The first place; raises ``PlacerecError`` if there is none."""
        if not self.places:
            why = self.note or "it has no answer"
            raise PlacerecError(f"{self.query or 'the photo'}: {why}, so there is no best place")
        return self.places[0]
