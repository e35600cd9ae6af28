"""Read an index: names and positions of the photos at once, descriptors on demand.

A reader shows the photos that the index had when it was opened. It does not see photos that were
added later. A photo that was changed or removed later raises StaleIndex, and damage raises
DamagedIndex. Descriptors are never returned for a wrong photo: their checksums contain the seal of
the photo (codec.py).

The connection is read-only and holds a file lock only during a call. Threads share it behind a
lock. It must not be used after ``fork``.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from placerec.errors import DamagedIndex, StaleIndex, UsageError
from placerec.files import path_of
from placerec.index import codec, schema
from placerec.index.connection import begin_reading, on_error, open_checked, same_file, translated
from placerec.index.packing import Dtype
from placerec.index.publish import leftovers
from placerec.index.vectors import Vectors, collected
from placerec.method.confidence import Calibration
from placerec.records import Array, PatchSet, Position

READ_BYTES = 1 << 28  # at most about 256 MB of descriptors are read in one transaction
_DESCRIPTOR_BYTES = """
SELECT (SELECT TOTAL(LENGTH(descriptor)) FROM photos)
    + (SELECT TOTAL(LENGTH(descriptors)) FROM patches)"""
_RETRIEVAL_BYTES = "SELECT TOTAL(LENGTH(descriptor)) FROM retrieval"
_RETRIEVAL = """
SELECT photos.seal, retrieval.descriptor FROM photos JOIN retrieval ON retrieval.photo = photos.id
"""
_PATCHES = """
SELECT patches.ordinal, patches.descriptors
FROM photos JOIN patches ON patches.photo = photos.id
WHERE photos.name = ? AND photos.seal = ? ORDER BY patches.ordinal"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A photo of the index: POSIX path below the root, sha256 of its file, position.

    ``gps_damaged``: its file has a GPS tag that cannot be right. ``blank``: it has no structure
    (one colour, a covered lens), so there is nothing to recognise.
    """

    name: str
    sha256: str
    position: Position | None
    gps_damaged: bool = False
    blank: bool = False


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """What an index states: ``root`` is the absolute photo folder, ``bytes`` the size of the file.

    ``bytes_per_photo`` is the mean size of a photo's stored descriptors, as in an evaluation; the
    model in the file is not counted. ``preset`` says how descriptors are stored, and ``format`` is
    its number in the file. ``retriever`` is its name; empty without one. ``retriever_source``
    is a name of ``baselines.RETRIEVERS``, or the path of an ONNX file relative to the folder of the
    index; it is empty for an object of a program. ``leftovers`` are the names of files beside the
    index that a killed program has left, or that a program at work has.
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
    preset: str
    calibration: Calibration = field(repr=False)
    leftovers: tuple[str, ...] = ()
    retriever: str = ""
    retriever_fingerprint: str = ""
    retriever_source: str = ""


@dataclass(frozen=True, slots=True)
class StoredPatches:
    """The patch sets of one photo as they are stored; any thread may decode them."""

    blobs: tuple[bytes, ...] = field(repr=False)
    seal: bytes = field(repr=False)
    path: Path
    dtype: Dtype

    def decode(self) -> tuple[PatchSet, ...]:
        """Return the patch sets in the order in which they were stored, one per patch size."""
        return tuple(
            codec.decode_patches(blob, codec.patch_key(self.seal, ordinal), self.path, self.dtype)
            for ordinal, blob in enumerate(self.blobs)
        )


class IndexReader:
    """The photos of an index as they were when it was opened; a context manager."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path, self._connection = path, connection
        self._lock, self._process, self._closed = threading.Lock(), os.getpid(), False
        self._collection = collection = schema.Collection.read(connection, path)
        self._photos = _intact_photos(connection, path, collection)
        version = schema.format_of(connection)
        ((descriptor_bytes,),) = connection.execute(_DESCRIPTOR_BYTES).fetchall()
        self.retriever = schema.RetrieverRow.read(connection, path)
        if self.retriever:
            descriptor_bytes += connection.execute(_RETRIEVAL_BYTES).fetchone()[0]
        connection.execute("COMMIT")
        self._storage, self.digest = schema.FORMATS[version], collection.digest
        self.entries: tuple[Entry, ...] = tuple(
            Entry(
                os.fsdecode(row.name), row.sha256, row.position, bool(row.gps_damaged),
                bool(row.blank),
            )
            for _, _, row in self._photos
        )  # fmt: skip
        self._file, self._status = path.absolute(), path.stat()
        self.info = IndexInfo(
            photos=len(self.entries),
            bytes=self._status.st_size,
            bytes_per_photo=descriptor_bytes / len(self.entries),
            model=collection.model,
            fingerprint=collection.fingerprint,
            settings=collection.settings,
            root=collection.root_of(path),
            created_with=collection.created_with,
            format=version,
            preset=self._storage.name,
            calibration=collection.calibration_of(path),
            leftovers=leftovers(path),
            **stated_retriever(self.retriever),
        )

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Open an index and check all but its descriptors, which are checked when read."""
        path = path_of(path)
        connection = open_checked(path, "ro")
        with on_error(connection.close), translated(path):
            return cls(path, connection)

    def global_descriptors(self) -> Vectors:
        """Return the global descriptors (N, G) in the order of ``entries``."""
        query, dtype = "SELECT seal, descriptor FROM photos", self._storage.descriptor
        return self._vectors(query, lambda seal: seal, dtype)

    def retrieval_descriptors(self) -> Vectors | None:
        """Return the retriever's descriptors (N, R), or ``None`` without a retriever."""
        if self.retriever is None:
            return None
        return self._vectors(_RETRIEVAL, self.retriever.key, self._storage.retrieval)

    def _vectors(self, query: str, key: Callable[[bytes], bytes], dtype: Dtype) -> Vectors:
        """Return a vector of each photo from a query for pairs of seal and blob.

        ``key`` returns the codec key of a photo's vector from its seal.
        """
        blobs: dict[Any, Any] = dict(self._read(query))

        def vector(photo: schema.StoredPhoto) -> tuple[Array, int, float]:
            if photo.seal not in blobs:
                raise self._missing(photo)
            return codec.stored_vector(blobs.pop(photo.seal), key(photo.seal), self._path, dtype)

        try:
            return collected(map(vector, self._photos), len(self._photos), dtype)
        except ValueError as error:
            raise DamagedIndex(self._path, str(error)) from error

    def photo_path(self, name: str) -> Path:
        """Return the path of the indexed photo ``name`` on this machine."""
        return self.info.root / name

    def patches(self, position: int) -> tuple[PatchSet, ...]:
        """Return the patch sets of ``entries[position]`` in the order in which they were put."""
        return next(self.read_patches([position])).decode()

    def read_patches(self, positions: Sequence[int]) -> Iterator[StoredPatches]:
        """Yield the stored patch sets of these entries, read in one transaction.

        Descriptors of more than about 256 MB are read in several transactions, to limit memory.
        """
        at_once = max(1, READ_BYTES // max(1, int(self.info.bytes_per_photo)))
        for first in range(0, len(positions), at_once):
            photos = [self._photos[position] for position in positions[first : first + at_once]]
            answers = self._read_all(_PATCHES, [(photo.row.name, photo.seal) for photo in photos])
            for photo, rows in zip(photos, answers, strict=True):
                if [ordinal for ordinal, _ in rows] != list(range(photo.row.patch_sets)):
                    raise self._missing(photo)
                blobs = tuple(blob for _, blob in rows)
                yield StoredPatches(blobs, photo.seal, self._path, self._storage.patches)

    def weights(self) -> bytes:
        """Return the fitted model as it was given to ``IndexWriter.create``."""
        rows = self._read("SELECT data FROM weights WHERE id = 1")
        if len(rows) != 1:
            raise DamagedIndex(self._path, "the fitted model is missing")
        return codec.decode_bytes(rows[0][0], self._collection.weights_key(), self._path)

    def has_changed(self) -> bool:
        """Whether the index was changed, replaced or deleted since it was opened; cheap."""
        try:
            status = self._file.stat()
        except OSError:
            return True
        if not same_file(status, self._status):
            return True
        return self._read("SELECT seal FROM collection") != [(schema.seal(*self._collection),)]

    def close(self) -> None:
        """Close the file; ``entries``, ``info`` and ``retriever`` stay valid."""
        self._closed = True
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run one query in its own snapshot."""
        return self._read_all(query, [values])[0]

    def _read_all(
        self, query: str, values: Sequence[Sequence[object]]
    ) -> list[list[tuple[Any, ...]]]:
        """Run one query several times in the same snapshot, once per entry of ``values``."""
        if os.getpid() != self._process:
            raise UsageError(
                f"{self._path}: process {self._process} opened this reader, and it cannot be used "
                f"after a fork; open the index again in process {os.getpid()}"
            )
        with self._lock:
            if self._closed:
                raise UsageError(f"{self._path}: this reader is closed; open the index again")
            with translated(self._path):
                begin_reading(self._connection, self._path)
                try:
                    return [self._connection.execute(query, row).fetchall() for row in values]
                finally:
                    self._connection.execute("ROLLBACK")

    def _missing(self, photo: schema.StoredPhoto) -> StaleIndex | DamagedIndex:
        """Return the error for missing rows: another process changed them, or they are damaged."""
        name = os.fsdecode(photo.row.name)
        rows = self._read("SELECT digest FROM collection")
        if rows != [(self._collection.digest,)]:
            return StaleIndex(self._path, f"{name!r} or other photos were changed")
        return DamagedIndex(self._path, f"descriptors of {name!r} are missing")


def stated_retriever(row: schema.RetrieverRow | None) -> dict[str, str]:
    """Return what ``IndexInfo`` states about a retriever."""
    if row is None:
        return {}
    return {"retriever": row.name, "retriever_fingerprint": row.fingerprint,
            "retriever_source": os.fsdecode(row.source)}  # fmt: skip


def _intact_photos(
    connection: sqlite3.Connection, path: Path, collection: schema.Collection
) -> list[schema.StoredPhoto]:
    """Return all photos, sorted by the bytes of their names; refuse a damaged row."""
    photos = schema.stored_photos(connection)
    damages = (photo.damage for photo in photos)
    if damage := next(filter(None, damages), "") or collection.damage(photos):
        raise DamagedIndex(path, damage)
    return sorted(photos, key=lambda photo: photo.row.name)
