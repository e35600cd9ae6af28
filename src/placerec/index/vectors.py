"""The vectors of all photos of an index, as they are stored, and the search among them.

In memory a vector has as many bytes as in the file. Vectors of signs are searched in two steps: the
number of equal signs chooses some photos, and their cosines with the query order them. So a photo
with a large cosine but few equal signs is missed. All others are compared one block after the
other, and none is missed. The order is that of ``method.ranking``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from placerec.errors import UsageError
from placerec.index.packing import SIGNS, Dtype, byte_products, signs, unpack
from placerec.method.ranking import nearest, similarities
from placerec.records import Array, Features
from placerec.workers import map_all

BLOCK_BYTES = 1 << 20  # of signs, or of unpacked vectors: a block stays in the cache of a core
BLOCKS_PER_THREAD = 5  # at least: a thread takes as long to start as a block or two
SURPLUS, LEAST = 4, 80  # times as many photos by signs as are asked for, and at least so many


@dataclass(frozen=True, slots=True, eq=False)
class Vectors:
    """The vectors of N photos: ``stored`` (N, items) with ``scales`` (N,), as ``unpack`` has them.

    ``vectors[rows]`` are float32 vectors: (D,) for one row, (n, D) for a slice or an array of rows.
    """

    stored: Array = field(repr=False)
    scales: Array = field(repr=False)
    columns: int
    dtype: Dtype

    def __len__(self) -> int:
        return len(self.stored)

    def __iter__(self) -> Iterator[Array]:
        return (self[row] for row in range(len(self)))

    def __getitem__(self, rows: int | slice | Array) -> Array:
        stored, scales = self.stored[rows], self.scales[rows]
        if stored.ndim == 1:
            one: Array = unpack(stored[np.newaxis], self.columns, self.dtype, scales)[0]
            return one
        return unpack(stored, self.columns, self.dtype, scales)

    def first(self, count: int) -> Vectors:
        """Return the first ``count`` vectors."""
        return replace(self, stored=self.stored[:count], scales=self.scales[:count])

    def blank(self) -> Array:
        """Return which vectors (N,) bool are zero."""
        filled = self.stored.any(axis=1) if self.dtype is Dtype.FLOAT32 else self.scales > 0
        return np.logical_not(filled)

    def cosines(self, query: Array, rows: Array | None = None) -> Array:
        """Return the cosines (n,) float64 of ``rows`` (n,), or of all, with ``query`` (D,)."""
        count = len(self) if rows is None else len(rows)
        step = max(1, BLOCK_BYTES // (4 * self.columns))
        blocks = [slice(first, first + step) for first in range(0, count, step)]
        chosen = (block if rows is None else rows[block] for block in blocks)
        if self.dtype in SIGNS:
            products = byte_products(query, self.dtype).ravel()
            parts = (self._from_products(products, some) for some in chosen)
        else:
            parts = (similarities(query, self[some]) for some in chosen)
        return np.concatenate([np.zeros(0), *parts])

    def _from_products(self, products: Array, rows: slice | Array) -> Array:
        """Return the cosines (n,) float64 of rows of signs, from ``byte_products`` in one row."""
        stored, scales = self.stored[rows], self.scales[rows].astype(np.float64)
        of_each_byte = products.take(stored + 256 * np.arange(stored.shape[1]))
        sums = of_each_byte.sum(axis=1, dtype=np.float64)
        cosines: Array = np.divide(sums, scales, where=scales > 0, out=np.zeros(len(sums)))
        return cosines

    def shortlist(
        self, query: Array, count: int, preferred: Array | None = None, threads: int = 1
    ) -> tuple[Array, Array]:
        """Return the ``count`` rows most similar to ``query`` (D,), as ``ranking.shortlist``."""
        some = max(LEAST, SURPLUS * count)
        if self.dtype not in SIGNS or some >= len(self):
            cosines = self.cosines(query)
            rows = nearest(cosines, count, preferred)
            return rows, cosines[rows]
        rows = np.sort(nearest(self._equal_signs(query, threads), some, preferred))
        return self.best_of(rows, query, count, preferred)

    def best_of(
        self, rows: Array, query: Array, count: int, preferred: Array | None = None
    ) -> tuple[Array, Array]:
        """Return what ``shortlist`` does, of some ``rows`` (n,) only, in ascending order."""
        cosines = self.cosines(query, rows)
        best = nearest(cosines, count, None if preferred is None else preferred[rows])
        return rows[best], cosines[best]

    def _equal_signs(self, query: Array, threads: int) -> Array:
        """Return minus the number of signs (N,) int32 in which each row differs from ``query``."""
        return -_different_bits(self.stored, signs(query[np.newaxis], self.dtype), threads)


def ranked_by(query: Features, ours: Vectors, retrieval: Vectors | None) -> tuple[Array, Vectors]:
    """Return what a shortlist is made of: a vector of the query, and those of the photos.

    They are those of the retriever if the photos have one; else the global descriptors, ``ours``.
    """
    if retrieval is None:
        return query.global_descriptor, ours
    if query.retrieval_descriptor is None:
        raise UsageError("the query was not described by the retriever of the index; describe it")
    return query.retrieval_descriptor, retrieval


def _different_bits(stored: Array, wanted: Array, threads: int) -> Array:
    """Return how many bits (N,) of each row (N, bytes) differ from ``wanted`` (1, bytes)."""
    if stored.shape[1] % 8 == 0 and stored.flags.c_contiguous:
        stored, wanted = stored.view(np.uint64), wanted.view(np.uint64)
    step = max(1, BLOCK_BYTES // stored[:1].nbytes)
    blocks = range(0, len(stored), step)

    def count(first: int) -> Array:
        bits = np.bitwise_count(stored[first : first + step] ^ wanted)
        number: Array = bits.sum(axis=1, dtype=np.int32)
        return number

    return np.concatenate(map_all(count, blocks, min(threads, len(blocks) // BLOCKS_PER_THREAD)))


def collected(vectors: Iterable[tuple[Array, int, float]], count: int, dtype: Dtype) -> Vectors:
    """Return the vectors of ``count`` photos, each as ``codec.stored_vector`` returns it.

    Raises ``ValueError`` if they have different lengths.
    """
    made = None
    for row, (items, columns, scale) in enumerate(vectors):
        if made is None:
            room = np.empty((count, len(items)), items.dtype), np.empty(count, np.float32)
            made = Vectors(*room, columns, dtype)
        if columns != made.columns:
            raise ValueError("global descriptors of different lengths")
        made.stored[row], made.scales[row] = items, scale
    if made is None:
        raise ValueError("no global descriptor")
    return made
