"""What a baseline is: two small contracts, and the records that pass through them.

A ``Retriever`` turns a photo into one descriptor; photos are ranked by the dot product. A
``Reranker`` turns a photo into local features and scores a query against candidates. Either may
be combined with any of the other. The evaluation does the rest: reading photos, storing, ranking,
timing, resuming.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from placerec.records import Array

Progress = Callable[[str, int, int], None]  # stage, items done, items in all
Local = Mapping[str, Array]  # local features by name, as they are stored: .npz


@dataclass(frozen=True, slots=True)
class Verified:
    """A query against one candidate: ``score`` is larger for a better agreement.

    ``points`` (M, 4) float32: the agreeing matches, x and y in the query, then in the candidate, as
    fractions 0..1 of width and height.
    """

    score: float
    points: Array = field(repr=False)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a method's numbers come from; printed with every result.

    ``licence`` of the weights (an SPDX name, or words), ``training_data`` in words; ``real`` is
    false for seeded weights, whose recall is never shown.
    """

    licence: str
    training_data: str
    real: bool = True


class Named(Protocol):
    """What every baseline says of itself."""

    @property
    def name(self) -> str:
        """The method's name with what its options change."""

    @property
    def provenance(self) -> Provenance:
        """Licence and training data."""

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of everything that decides a result; of a retriever known after ``fit``."""


@runtime_checkable
class Recorded(Protocol):
    """What a baseline may say of itself further, and must where its name does not tell it apart."""

    @property
    def record(self) -> Mapping[str, Any]:
        """Its options at their values and the sha256 of its weights by name, as plain values.

        Known before ``fit``: a run is only gone on with where it is the same. A ``fingerprint``
        that is known by then is compared too.
        """


class Retriever(Named, Protocol):
    """A photo to one descriptor."""

    def fit(self, photos: Callable[[], Iterator[Array]], count: int, progress: Progress) -> None:
        """Learn vocabulary or PCA from the ``count`` database photos, or do nothing.

        Each call of ``photos`` gives them once, (H, W, 3) uint8 RGB, in the database's order.
        """

    def describe(self, pixels: Array) -> Array:
        """(H, W, 3) uint8 RGB to (D,) float32 of unit length, or all zero for a blank photo.

        Called from several threads.
        """


class Reranker(Named, Protocol):
    """A query against the photos of its shortlist."""

    def describe(self, pixels: Array) -> Local:
        """(H, W, 3) uint8 RGB to local features, as they are stored for a database photo.

        Called from several threads.
        """

    def score(self, query: Local, candidates: Sequence[Local]) -> list[Verified]:
        """One result a candidate, in their order; equal scores keep the global order."""
