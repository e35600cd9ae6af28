"""Reading an index: the photos' names and positions at once, descriptors when asked for.

A reader answers for the photos that were there when it was opened. Photos added since are not
seen; a photo that was changed or removed since raises StaleIndex, damage raises DamagedIndex, and
descriptors are never returned for another photo than the one asked for: their checksums are keyed
by the photo's seal (codec.py).

The connection is read-only and holds a lock only during a call. Threads share it behind a lock; it
must not be carried across ``fork``.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from placerec.errors import DamagedIndex, StaleIndex, UsageError
from placerec.index import codec
from placerec.index.connection import begin_reading, open_checked, translated
from placerec.index.rows import (
    DIGEST_BYTES,
    PHOTO_FIELDS,
    Collection,
    add_seal,
    is_relative,
    position_of,
)
from placerec.index.schema import FORMATS, format_of, patch_key, seal
from placerec.records import Array, PatchSet, Position

_PATCHES = """
SELECT patches.ordinal, patches.descriptors
FROM photos JOIN patches ON patches.photo = photos.id
WHERE photos.name = ? AND photos.seal = ? ORDER BY patches.ordinal"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A photo of the index: posix path below the root, sha256 of its file, where it was taken."""

    name: str
    sha256: str
    position: Position | None


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """What an index says of itself; ``root`` is the absolute photo folder, sizes are in bytes.

    ``format`` is 1 for descriptors kept as int8, 2 for float32.
    """

    photos: int
    bytes: int
    bytes_per_photo: float
    model: str
    fingerprint: str
    settings: str
    root: Path
    created_with: str
    format: int


@dataclass(frozen=True, slots=True)
class _Sealed:
    """What the descriptors of an entry are found and checked by."""

    name: bytes
    seal: bytes
    patch_sets: int


class IndexReader:
    """The photos of an index as they were when it was opened; a context manager."""

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        collection: Collection,
        photos: list[tuple[Entry, _Sealed]],
        version: int,
    ) -> None:
        self._path, self._connection, self._collection = path, connection, collection
        self._sealed = tuple(sealed for _, sealed in photos)
        self._lock, self._process, self._closed = threading.Lock(), os.getpid(), False
        self.entries: tuple[Entry, ...] = tuple(entry for entry, _ in photos)
        size = path.stat().st_size
        self.info = IndexInfo(
            photos=len(photos),
            bytes=size,
            bytes_per_photo=size / len(photos),
            model=collection.model,
            fingerprint=collection.fingerprint,
            settings=collection.settings,
            root=collection.root_of(path),
            created_with=collection.created_with,
            format=version,
        )
        self._dtype = FORMATS[version]

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Open an index and check all but its descriptors, which are checked when read."""
        path = Path(path)
        connection = open_checked(path, "ro")
        try:
            with translated(path):
                collection = Collection.read(connection, path)
                photos = _load(connection, path, collection)
                version = format_of(connection)
                connection.execute("COMMIT")
            return cls(path, connection, collection, photos, version)
        except BaseException:
            connection.close()
            raise

    def global_descriptors(self) -> Array:
        """Return the global descriptors (N, G) float32 in the order of ``entries``."""
        blobs: dict[Any, Any] = dict(self._read("SELECT seal, descriptor FROM photos"))
        rows: list[Array] = []
        for number, sealed in enumerate(self._sealed):
            if sealed.seal not in blobs:
                raise self._missing(number)
            blob = blobs.pop(sealed.seal)
            rows.append(codec.stored_vector(blob, sealed.seal, self._path, self._dtype))
            if len(rows[-1]) != len(rows[0]):
                raise DamagedIndex(self._path, "global descriptors of different lengths")
        return codec.unit_rows(np.stack(rows))

    def patches(self, position: int) -> tuple[PatchSet, ...]:
        """Return the patch sets of ``entries[position]`` in the order in which they were put."""
        sealed = self._sealed[position]
        rows = self._read(_PATCHES, (sealed.name, sealed.seal))
        if [ordinal for ordinal, _ in rows] != list(range(sealed.patch_sets)):
            raise self._missing(position)
        return tuple(
            codec.decode_patches(blob, patch_key(sealed.seal, ordinal), self._path, self._dtype)
            for ordinal, blob in rows
        )

    def descriptor_bytes(self) -> float:
        """Mean size of a photo's descriptors as they are stored, global and patches together."""
        sizes = (
            "SELECT SUM(LENGTH(descriptor)) FROM photos",
            "SELECT SUM(LENGTH(descriptors)) FROM patches",
        )
        return float(sum(self._read(one)[0][0] or 0 for one in sizes)) / len(self.entries)

    def weights(self) -> bytes:
        """Return the fitted model as it was given to ``IndexWriter.create``."""
        rows = self._read("SELECT data FROM weights WHERE id = 1")
        if len(rows) != 1:
            raise DamagedIndex(self._path, "the fitted model is missing")
        return codec.decode_bytes(rows[0][0], self._collection.weights_key(), self._path)

    def close(self) -> None:
        """Close the file; the entries stay."""
        self._closed = True
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run one query in a snapshot of its own."""
        if os.getpid() != self._process:
            raise UsageError(
                f"{self._path}: this reader was opened by process {self._process} and cannot be "
                f"used after a fork; open the index again in process {os.getpid()}"
            )
        with self._lock:
            if self._closed:
                raise UsageError(f"{self._path}: this reader is closed; open the index again")
            with translated(self._path):
                begin_reading(self._connection, self._path)
                try:
                    return self._connection.execute(query, values).fetchall()
                finally:
                    self._connection.execute("ROLLBACK")

    def _missing(self, position: int) -> StaleIndex | DamagedIndex:
        """Tell whether a photo's rows are gone because of a writer or because of damage."""
        name = self.entries[position].name
        rows = self._read("SELECT digest FROM collection")
        if rows != [(self._collection.digest,)]:
            return StaleIndex(self._path, f"{name!r} or other photos were changed")
        return DamagedIndex(self._path, f"descriptors of {name!r} are missing")


def _load(
    connection: sqlite3.Connection, path: Path, collection: Collection
) -> list[tuple[Entry, _Sealed]]:
    """Return all photos sorted by the bytes of their names, checked against the digest."""
    photos, digest = [], bytes(DIGEST_BYTES)
    for *values, mark in connection.execute(f"SELECT {PHOTO_FIELDS}, seal FROM photos"):  # noqa: S608
        row: Any = tuple(values)
        if seal(*row) != mark:
            raise DamagedIndex(path, f"the row of photo {row[1]!r:.200} has changed")
        if not is_relative(row[0]):
            raise DamagedIndex(path, f"photo {row[1]!r:.200} has an impossible name")
        digest = add_seal(digest, mark)
        entry = Entry(os.fsdecode(row[0]), row[2], position_of(row))
        photos.append((entry, _Sealed(row[0], mark, row[6])))
    if len(photos) != collection.photos or digest != collection.digest:
        why = f"{len(photos)} photos where {collection.photos} belong, or not the same ones"
        raise DamagedIndex(path, why)
    if not photos:
        raise DamagedIndex(path, "it holds no photo")
    return sorted(photos, key=lambda photo: photo[1].name)
