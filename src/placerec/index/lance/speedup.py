"""The speed-up of an index in Lance: a dataset with an inverted file (IVF) of Lance.

``_speedup.lance`` lies in the folder of the index, so all machines that read the index share it. A
row has a vector as float16, and the numbers of the photos that are stored with exactly this vector.
A vector with more than 512 numbers is projected to 512. So its cosines are not exact: it only
proposes photos, and the descriptors of the index decide which are the most similar, as in
``index.speedup``. Photos without a direction (zero vectors) are left out.

Lance reads a folder without a checksum of ours, and in memory that cannot be overrun. A damaged
cache proposes other photos, or it is an error of Lance, and then all photos are compared.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from placerec.errors import (
    DamagedIndex,
    NoRoom,
    NotAnIndex,
    NotFound,
    PlacerecError,
    UsageError,
    import_extra,
)
from placerec.index.lance.place import SPEEDUP, Place, lance
from placerec.index.speedup import not_used, proposals
from placerec.index.vectors import Vectors
from placerec.records import Array
from placerec.runtime import Progress, no_progress

DIMENSIONS = 512  # of a vector in the cache, at most
PROBES, PROBED_SHARE = 20, 10  # lists that are searched: so many, or a tenth of them
KIND = {"index_type": "IVF_FLAT"}  # of Lance
SAMPLES = 64  # vectors for each list, from which the lists are learned
CACHED_BYTES = 1 << 30  # of lists that Lance keeps in memory
AT_ONCE = 2048  # vectors that are projected at once
ABOUT, VERSION = b"placerec", 1


@dataclass(frozen=True, slots=True)
class LanceNeighbours:
    """The vectors of an index's photos in lists: it answers as ``method.ranking.shortlist`` does.

    Threads may share it. After a fork, all photos are compared.
    """

    photos: int
    place: Place
    dataset: Any = field(repr=False)
    probes: int
    process: int = field(default_factory=os.getpid, repr=False)

    def shortlist(
        self, query: Array, database: Vectors, count: int, preferred: Array | None = None
    ) -> tuple[Array, Array]:
        """Return the ``count`` rows of ``database`` (N, D) most similar to ``query`` (D,).

        Rows, their cosines and their order are those of ``Vectors.best_of`` of all rows, but for
        rows that Lance does not propose. Few photos, or an error of Lance: the search without it.
        """
        wanted = proposals(count)
        rows = self._proposed(query, wanted) if wanted < self.photos else None
        if rows is None:
            return database.shortlist(query, count, preferred)
        return database.best_of(rows, query, count, preferred)

    def _proposed(self, query: Array, wanted: int) -> Array | None:
        """Return the rows that Lance proposes, in ascending order, or ``None`` after an error."""
        if os.getpid() != self.process or not query.any():
            return None
        vector = projected(query[np.newaxis])[0].astype(np.float16)
        nearest = {"column": "vector", "q": vector, "k": wanted, "minimum_nprobes": self.probes}
        try:
            with self.place.errors():
                table = self.dataset.scanner(columns=["photos"], nearest=nearest).to_table()
                rows = table["photos"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        except PlacerecError:
            return None
        rows = np.unique(rows)
        inside = len(rows) and rows[0] >= 0 and rows[-1] < self.photos
        return rows if inside else None


def write_speedup(
    path: Path, vectors: Vectors, mark: bytes, progress: Progress = no_progress
) -> Path:
    """Write the cache of the index at the address ``path``, and return the cache's address.

    An earlier one is deleted first. The mark is written last: without it a cache is not complete.
    """
    place = _place_of(path)
    _drop(place)
    groups = _groups(vectors)
    with place.errors(writing=True):
        dataset = lance().write_dataset(
            _batches(vectors, groups, progress), place.uri, schema=_schema(vectors.columns),
            mode="create",
        )  # fmt: skip
        if groups:
            dataset = dataset.create_index(
                "vector", metric="cosine", num_partitions=_lists(len(groups)),
                sample_rate=SAMPLES, **KIND,
            )  # fmt: skip
        about = {"version": VERSION, "mark": mark.hex(), "photos": len(vectors),
                 "lists": _lists(len(groups))}  # fmt: skip
        dataset.update_schema_metadata({ABOUT.decode(): json.dumps(about)})
    return place.address


def open_speedup(path: Path, mark: bytes) -> tuple[LanceNeighbours | None, str]:
    """Return the neighbours in the cache of the index at ``path``, as ``open_neighbours``."""
    place = _place_of(path)
    try:
        dataset, about = _opened(place)
        if about["mark"] != mark.hex():
            raise UsageError("it was made before the index was changed")
        probes = max(PROBES, about["lists"] // PROBED_SHARE)
        return LanceNeighbours(about["photos"], place, dataset, probes), ""
    except NotAnIndex:
        return None, not_used(place.address, "it is not complete", path)
    except NotFound:
        return None, ""
    except PlacerecError as error:
        return None, not_used(place.address, error, path)


def stale_speedup(path: Path, mark: bytes) -> list[str]:
    """Return the name of the cache of the index at ``path`` if it was made before a change."""
    try:
        _, about = _opened(_place_of(path))
    except PlacerecError:
        return []
    return [] if about["mark"] == mark.hex() else [SPEEDUP]


def size_of(address: Path) -> int:
    """Return the bytes of the cache at the address that ``write_speedup`` has returned."""
    place = Place.of(address)
    dataset = place.dataset()
    with place.errors():
        files = [file for part in dataset.get_fragments() for file in part.data_files()]
        sizes = [file.file_size_bytes for file in files]
        sizes += [index.total_size_bytes for index in dataset.describe_indices()]
        return int(sum(size or 0 for size in sizes))


@cache
def _projection(columns: int) -> tuple[Array, Array]:
    """Return an order of the columns and a sign for each, the same on every machine."""
    numbers = np.frombuffer(hashlib.shake_256(b"projection").digest(8 * columns), "<u8")
    return np.argsort(numbers, kind="stable"), np.where(numbers & 1, 1, -1).astype(np.float32)


def projected(rows: Array) -> Array:
    """Return rows (n, D) as (n, 512) float32: signed sums of columns.

    Shorter rows stay as they are. Each column belongs to one sum. The products of rows are right on
    average (Charikar, Chen and Farach-Colton, Finding Frequent Items in Data Streams, 2002).
    """
    count, columns = rows.shape
    if columns <= DIMENSIONS:
        return rows
    order, signs = _projection(columns)
    padded = np.zeros((count, -(-columns // DIMENSIONS) * DIMENSIONS), np.float32)
    padded[:, :columns] = (rows * signs)[:, order]
    sums: Array = padded.reshape(count, -1, DIMENSIONS).sum(axis=1)
    return sums


def _place_of(path: Path) -> Place:
    """Return the place of the cache of the index at an address."""
    place = Place.of(path)
    folder = None if place.folder is None else place.folder / SPEEDUP
    return Place(Path(f"{path}/{SPEEDUP}"), f"{place.uri}/{SPEEDUP}", folder)


def _opened(place: Place) -> tuple[Any, dict[str, Any]]:
    """Return the dataset of a cache, and what it states; raise ``UsageError`` if it is not one."""
    dataset = place.dataset(index_cache_size_bytes=CACHED_BYTES)
    with place.errors():
        stated = (dataset.schema.metadata or {}).get(ABOUT)
    if stated is None:
        raise UsageError("it is not complete")
    try:
        about = json.loads(stated)
        right = about["version"] == VERSION and isinstance(about["mark"], str)
        right = right and all(type(about[name]) is int for name in ("photos", "lists"))
    except (ValueError, TypeError, KeyError):
        right = False
    if not right:
        raise UsageError("another version of placerec has made it, or it is damaged")
    return dataset, about


def _drop(place: Place) -> None:
    """Delete a cache, if there is one."""
    if place.folder is not None:
        shutil.rmtree(place.folder, ignore_errors=True)
        if place.folder.exists():
            raise NoRoom(place.address, "an earlier one cannot be deleted")
        return
    with suppress(NotFound, DamagedIndex), place.errors():
        lance().LanceDataset.drop(place.uri, ignore_not_found=True)


def _groups(vectors: Vectors) -> list[list[int]]:
    """Return the rows that are not zero, those with equal stored vectors together."""
    groups: dict[bytes, list[int]] = {}
    for row in np.flatnonzero(~vectors.blank()).tolist():
        content = hashlib.blake2b(vectors.stored[row].tobytes(), digest_size=16)
        content.update(vectors.scales[row].tobytes())
        groups.setdefault(content.digest(), []).append(row)
    return list(groups.values())


def _lists(vectors: int) -> int:
    return max(1, math.isqrt(vectors))


def _schema(columns: int) -> Any:
    arrow = import_extra("pyarrow", "an index in Lance", "lance")
    vector = arrow.list_(arrow.float16(), min(columns, DIMENSIONS))
    return arrow.schema([("photos", arrow.list_(arrow.int64())), ("vector", vector)])


def _batches(vectors: Vectors, groups: Sequence[list[int]], progress: Progress) -> Iterator[Any]:
    """Yield a row for each group."""
    arrow = import_extra("pyarrow", "an index in Lance", "lance")
    schema = _schema(vectors.columns)
    for first in range(0, len(groups), AT_ONCE):
        some = groups[first : first + AT_ONCE]
        rows = projected(vectors[np.array([group[0] for group in some])]).astype(np.float16)
        numbers = arrow.array(rows.reshape(-1))
        vector = arrow.FixedSizeListArray.from_arrays(numbers, rows.shape[1])
        photos = arrow.array(some, arrow.list_(arrow.int64()))
        yield arrow.record_batch([photos, vector], schema=schema)
        progress("neighbours", first + len(some), len(groups))
