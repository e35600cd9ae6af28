"""The search in a large map: by equal signs, and by a speed-up; a part of benchmarks/speed.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from speed_place import NOISE, Place, in_turn, milliseconds, timed, unit

from placerec.index import speedup
from placerec.index.packing import Dtype, pack
from placerec.index.reader import IndexReader
from placerec.index.vectors import Vectors
from placerec.records import Array


def large(place: Place) -> list[dict[str, Any]]:
    """The search by a speed-up beside the exact one: recall and time, on drawn descriptors."""
    with IndexReader.open(place.index(0)) as reader:
        real = reader.global_descriptors()[:]
    return [large_map(place, real, photos, dims) for photos, dims in place.scale.large]


def large_map(place: Place, real: Array, photos: int, dimensions: int) -> dict[str, Any]:
    """Measure a map of descriptors between two real ones, with noise, at some dimensions.

    They are stored as the default stores them. The exact search is that of all cosines; the search
    without a speed-up goes by equal signs first.
    """
    rng, base = np.random.default_rng(photos), real
    if dimensions:
        base = unit(base @ rng.standard_normal((base.shape[1], dimensions), np.float32))

    def drawn(count: int) -> Array:
        one, other = rng.integers(len(base), size=(2, count))
        share = rng.random((count, 1), np.float32)
        noise = rng.standard_normal((count, base.shape[1]), np.float32)
        mixed = base[one] * share + base[other] * (1 - share)
        return unit(mixed + (NOISE / base.shape[1] ** 0.5) * noise)

    asked, columns = drawn(20 * place.scale.few), base.shape[1]
    items, kind = Dtype.ONE_BIT.items(columns), Dtype.ONE_BIT
    room = np.empty((photos, items), np.uint8), np.empty(photos, np.float32)
    vectors = Vectors(*room, columns, kind)
    best: list[Array] = []
    for first in range(0, photos, 1000):
        rows = drawn(min(1000, photos - first))
        part = slice(first, first + len(rows))
        vectors.stored[part], vectors.scales[part] = pack(rows, kind, "drawn")
        best.append(vectors[part] @ asked.T)
    similar = np.concatenate(best)
    exact = np.argpartition(-similar, 99, axis=0)[:100]
    order = np.argsort(-np.take_along_axis(similar, exact, axis=0), axis=0)
    exact = np.take_along_axis(exact, order, axis=0)
    path, mark = place.work / "drawn", bytes(16)
    spent: dict[str, float] = {}
    with timed(spent, "build"):
        cache = speedup.write_neighbours(path, vectors, mark)
    near, _ = speedup.open_neighbours(path, mark)
    searches = {
        "speedup": lambda query, count: near.shortlist(query, vectors, count),
        "signs": vectors.shortlist,
    }
    found: dict[str, float] = {}
    for count in (20, 100):
        for side, search in searches.items():
            shares = [
                np.isin(exact[:count, n], search(query, count)[0]).mean()
                for n, query in enumerate(asked)
            ]
            found[f"recall_{count}_{side}"] = float(np.mean(shares))
    some = asked[:10]

    def each_of(search: Callable[[Array, int], object]) -> Callable[[int], dict[str, float]]:
        run = milliseconds(lambda: [search(query, 20) for query in some])
        return lambda number: {"ms": run(number)["ms"] / len(some)}

    sides = {side: each_of(search) for side, search in searches.items()}
    found_ms = {side: stages["ms"] for side, stages in in_turn(sides, place.scale.few).items()}
    size = cache.stat().st_size
    cache.unlink()
    return {
        "photos": photos, "dimensions": columns, "build_s": round(spent["build"] / 1e3, 2),
        "cache_bytes_per_photo": round(size / photos), **found, **found_ms,
    }  # fmt: skip
