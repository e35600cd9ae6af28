"""The search in a large map in Lance: exact, and by a speed-up; a part of benchmarks/scale.py.

The descriptors have the size of the default method and are stored as it stores them. "Places" are
mixtures of two of 500 directions, with noise: photos between two places. "Random" have no
structure: but for one photo, all are about equally far from a query, so there is little to find.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np

from placerec.index.lance import speedup
from placerec.index.packing import Dtype, pack
from placerec.index.vectors import Vectors
from placerec.records import Array

COLUMNS = ("vectors", "kind", "photos", "recall_1", "recall_20", "recall_100", "ms", "full_ms",
           "build_s", "bytes_per_photo")  # fmt: skip
PHOTOS, DIMENSIONS, QUERIES, PLACES, NOISE, AT_ONCE = 100_000, 12288, 50, 500, 0.5, 2000
KINDS = {
    "IVF_FLAT": {"index_type": "IVF_FLAT"},
    "IVF_PQ": {"index_type": "IVF_PQ", "num_sub_vectors": speedup.DIMENSIONS // 8},
}
ROWS = (("places", "IVF_FLAT"), ("places", "IVF_PQ"), ("random", "IVF_FLAT"))
COUNTS = (1, 20, 100)


def unit(rows: Array) -> Array:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def drawn(vectors: str) -> tuple[Vectors, Array]:
    """Return the descriptors of the photos as they are stored, and those of queries."""
    random = np.random.default_rng(1)
    base = unit(random.standard_normal((PLACES, DIMENSIONS), np.float32))

    def some(count: int) -> Array:
        noise = random.standard_normal((count, DIMENSIONS), np.float32)
        if vectors == "random":
            return unit(noise)
        one, other = random.integers(PLACES, size=(2, count))
        share = random.random((count, 1), np.float32)
        mixed = base[one] * share + base[other] * (1 - share)
        return unit(mixed + NOISE / DIMENSIONS**0.5 * noise)

    kind = Dtype.ONE_BIT
    stored = np.empty((PHOTOS, kind.items(DIMENSIONS)), np.uint8)
    scales = np.empty(PHOTOS, np.float32)
    for first in range(0, PHOTOS, AT_ONCE):
        rows = some(AT_ONCE)
        if first == 0:
            near = rows[:QUERIES]
        for row, number in zip(rows, range(first, first + AT_ONCE), strict=True):
            packed, scales[number] = pack(row[np.newaxis], kind, "drawn")
            stored[number] = packed[0]
    asked = unit(near + unit(some(QUERIES))) if vectors == "random" else some(QUERIES)
    return Vectors(stored, scales, DIMENSIONS, kind), asked


def measure(vectors: str, kind: str, work: Path) -> dict[str, object]:
    """Return a row: what the speed-up finds of the first photos by cosine, and its time."""
    photos, asked = drawn(vectors)
    address, mark = Path(f"lance:{work}"), bytes(16)
    speedup.KIND = KINDS[kind]
    start = perf_counter()
    cache = speedup.write_speedup(address, photos, mark)
    build_s = perf_counter() - start
    near, why = speedup.open_speedup(address, mark)
    if near is None:
        raise SystemExit(why)
    best = [np.argsort(-photos.cosines(query), kind="stable") for query in asked]
    row: dict[str, object] = {"vectors": vectors, "kind": kind, "photos": PHOTOS}
    for count in COUNTS:
        shares = [np.isin(best[n][:count], near.shortlist(query, photos, count)[0]).mean()
                  for n, query in enumerate(asked)]  # fmt: skip
        row[f"recall_{count}"] = round(float(np.mean(shares)), 3)
    spent: dict[str, list[float]] = {"ms": [], "full_ms": []}
    for query in asked:
        for name, search in (("ms", near), ("full_ms", None)):
            start = perf_counter()
            if search:
                search.shortlist(query, photos, 20)
            else:
                photos.shortlist(query, 20)
            spent[name].append(1e3 * (perf_counter() - start))
    row |= {name: round(median(times), 1) for name, times in spent.items()}
    size = speedup.size_of(cache) / PHOTOS
    return row | {"build_s": round(build_s), "bytes_per_photo": round(size)}
