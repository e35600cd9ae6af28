"""What a baseline is: the contracts of a retriever and of a re-ranker, and their records.

A ``Retriever`` turns a photo into one descriptor; photos are ranked by the dot product. A
``Reranker`` turns a photo into local features and scores a query against candidates. Any retriever
can be combined with any re-ranker. The evaluation reads and stores photos, ranks, measures times
and resumes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from placerec.records import Array
from placerec.runtime import Progress

Local = Mapping[str, Array]  # local features by name, as they are stored in a .npz file


@dataclass(frozen=True, slots=True)
class Verified:
    """The comparison of a query with one candidate; a larger ``score`` is a better agreement.

    ``points`` (M, 4) float32 are the agreeing matches: x and y in the query, then x and y in the
    candidate, as fractions 0..1 of width and height.
    """

    score: float
    points: Array = field(repr=False)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where the numbers of a method come from; every result shows it.

    ``licence`` of the weights (an SPDX name, or words) and ``training_data`` in words. ``real`` is
    false for seeded weights, whose recall is never shown.
    """

    licence: str
    training_data: str
    real: bool = True


class Named(Protocol):
    """What every baseline states about itself."""

    @property
    def name(self) -> str:
        """The name of the method, with the options that are not at their default."""

    @property
    def provenance(self) -> Provenance:
        """Licence and training data."""

    @property
    def fingerprint(self) -> str:
        """The sha256 (hex) of everything that decides a result; a retriever has it after ``fit``.

        Raises ``UsageError`` before ``fit``.
        """


@runtime_checkable
class Recorded(Protocol):
    """What a baseline states in addition if its name does not identify it."""

    @property
    def record(self) -> Mapping[str, Any]:
        """All options and the sha256 of the weights by file name, as plain values.

        It is known before ``fit``. A run resumes only if it is unchanged. The ``fingerprint`` is
        compared too if it is known before ``fit``.
        """


class Retriever(Named, Protocol):
    """Turns a photo into one descriptor."""

    def fit(self, photos: Callable[[], Iterator[Array]], count: int, progress: Progress) -> None:
        """Fit the vocabulary or PCA on the ``count`` database photos, or do nothing.

        Each call of ``photos`` yields every photo once, (H, W, 3) uint8 RGB, in database order.
        """

    def describe(self, pixels: Array) -> Array:
        """Return (D,) float32 of unit length for (H, W, 3) uint8 RGB; a blank photo gives zeros.

        Several threads call it at the same time.
        """


class Reranker(Named, Protocol):
    """Scores a query against the photos of its shortlist."""

    def describe(self, pixels: Array) -> Local:
        """Return the local features of (H, W, 3) uint8 RGB, as they are stored.

        Several threads call it at the same time.
        """

    def score(self, query: Local, candidates: Sequence[Local]) -> list[Verified]:
        """Return one result per candidate, in their order; equal scores keep the global order."""
