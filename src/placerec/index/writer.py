"""Write an index: a first build in a partial file, or changes to an existing index, in batches.

    with IndexWriter.create(path, root=..., model=..., ...) as writer:
        writer.put(name, sha256, position, features)

A batch is everything between two ``commit`` calls. It is stored completely or not at all, and it
survives a crash after ``commit`` has returned (on an index opened with ``open``). A first build
becomes an index when the ``with`` block ends without an exception; otherwise it is deleted.

One process writes at a time: ``open`` takes the write lock, and the end of a batch frees it until
the next ``put``. An error while storing ends the writer, so no photo is stored in part: the open
batch is rolled back, and earlier batches stay.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from placerec.errors import DamagedIndex, UsageError
from placerec.index import codec, publish
from placerec.index.connection import open_checked, translated
from placerec.index.rows import PHOTO_FIELDS, Collection, name_bytes, photo_row, relative_root
from placerec.index.schema import FORMATS, create_tables, format_of, patch_key, seal
from placerec.index.verify import findings
from placerec.records import Features, Position
from placerec.version import __version__

_INSERT_PHOTO = (
    f"INSERT INTO photos ({PHOTO_FIELDS}, seal, descriptor) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
)
_INSERT_PATCHES = "INSERT INTO patches (photo, ordinal, descriptors) VALUES (?, ?, ?)"


class IndexWriter:
    """The only writer of an index; a context manager, made by ``create`` or ``open``."""

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        dtype: codec.Dtype,
        staged: publish.Staging | None = None,
    ) -> None:
        self._path, self._connection, self._staged = path, connection, staged
        self._dtype = dtype
        self._collection: Collection | None = None  # None: no batch is open
        self._width: int | None = None  # length G of the global descriptors
        self._failure: BaseException | None = None
        self._closed = False

    @classmethod
    def create(
        cls,
        path: Path | str,
        *,
        root: Path | str,
        model: str,
        fingerprint: str,
        settings: str,
        weights: bytes,
        exact: bool = False,
        replace: bool = False,
    ) -> Self:
        """Begin an index of the photos below ``root``, described by one model.

        ``fingerprint`` is the hex text of the model, ``settings`` its JSON text and ``weights`` its
        bytes; this class does not interpret them. Descriptors are stored as int8, or with ``exact``
        as float32. With ``replace`` an existing index (but no other file) is replaced at the end.
        """
        path, root = Path(path), Path(root)
        if not (model and fingerprint and settings):
            raise UsageError("an index needs the name, fingerprint and settings of its model")
        row = Collection(model, fingerprint, settings, relative_root(root, path), __version__)
        blob = codec.encode_bytes(weights, row.weights_key())
        dtype = codec.Dtype.FLOAT32 if exact else codec.Dtype.INT8
        staged = publish.claim(path, replace=replace)
        writer = cls(path, staged.connection, dtype, staged)
        try:
            with translated(path):
                create_tables(staged.connection, dtype)
                row.write(staged.connection)
                staged.connection.execute("INSERT INTO weights VALUES (1, ?)", (blob,))
                staged.connection.execute("COMMIT")
        except BaseException:
            writer.close()
            raise
        return writer

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Open an index for changes; raise Busy if another process still writes after 5 s.

        New descriptors are stored in the format of the index: int8 or float32.
        """
        path = Path(path)
        connection = open_checked(path, "rw")
        writer = cls(path, connection, FORMATS[format_of(connection)])
        try:
            with translated(path):
                writer._collection = Collection.read(writer._connection, path)
        except BaseException:
            writer.close()
            raise
        return writer

    def put(self, name: str, sha256: str, position: Position | None, features: Features) -> None:
        """Add one photo, or replace the photo of that name (its POSIX path below the root)."""
        row = photo_row(name, sha256, position, len(features.patches))
        mark = seal(*row)
        descriptor = codec.encode_vector(features.global_descriptor, mark, self._dtype)
        sets = [
            codec.encode_patches(patches, patch_key(mark, ordinal), self._dtype)
            for ordinal, patches in enumerate(features.patches)
        ]
        with self._batch():
            width = self._width_of_index() or len(descriptor)
        if len(descriptor) != width:
            raise UsageError(
                f"{name!r}: its global descriptor has {len(descriptor)} bytes, those of the other "
                f"photos {width}; describe all photos of an index with one model"
            )
        with self._batch() as collection:
            collection = self._delete(row[0], collection)
            photo = self._connection.execute(_INSERT_PHOTO, (*row, mark, descriptor)).lastrowid
            rows = ((photo, ordinal, blob) for ordinal, blob in enumerate(sets))
            self._connection.executemany(_INSERT_PATCHES, rows)
            self._collection = collection.with_photo(mark)
            self._width = width

    def remove(self, name: str) -> bool:
        """Remove a photo; return False if there is none of that name."""
        raw = name_bytes(name)
        with self._batch() as collection:
            self._collection = self._delete(raw, collection)
            return self._collection is not collection

    def commit(self) -> None:
        """Make the open batch durable; do nothing without one."""
        self._refuse_ended()
        if self._collection is None:
            return
        if self._collection.photos == 0:
            raise UsageError(f"{self._path}: an index needs a photo; delete the file instead")
        with self._batch() as collection:
            if collection != Collection.read(self._connection, self._path):
                collection.write(self._connection)
            self._connection.execute("COMMIT")
            self._collection = None

    def close(self) -> None:
        """Drop the open batch, and with ``create`` the unpublished index."""
        if not self._closed:
            self._closed = True
            if self._staged is not None:
                publish.discard(self._staged)  # while its lock is still held
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.commit()
                if self._staged is not None:
                    self._publish(self._staged)
        finally:
            self.close()

    def _publish(self, staged: publish.Staging) -> None:
        """Check, sync and rename what was built."""
        with self._batch() as collection:
            if collection.photos == 0:
                raise UsageError(f"{self._path}: no photo came in, so no index was made")
            self._connection.execute("COMMIT")
            self._collection = None
            if wrong := findings(self._connection, staged.partial):
                raise DamagedIndex(staged.partial, f"it was not stored as written: {wrong[0]}")
            # Nothing is synced yet; this commit syncs the whole file.
            self._connection.execute("PRAGMA synchronous=FULL")
            self._connection.execute("BEGIN IMMEDIATE")
            collection.write(self._connection)
            self._connection.execute("COMMIT")
        publish.publish(staged)

    @contextmanager
    def _batch(self) -> Iterator[Collection]:
        """Open a batch if none is open; an exception inside ends the writer."""
        self._refuse_ended()
        try:
            with translated(self._path):
                if self._collection is None:
                    self._connection.execute("BEGIN IMMEDIATE")
                    self._collection = Collection.read(self._connection, self._path)
                yield self._collection
        except BaseException as error:
            self._failure, self._collection = error, None
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _refuse_ended(self) -> None:
        if self._closed:
            raise UsageError(f"{self._path}: this writer is closed; open the index again")
        if self._failure is not None:
            raise UsageError(
                f"{self._path}: an earlier error has ended this writer ({self._failure}); open the "
                f"index again"
            ) from self._failure

    def _delete(self, raw: bytes, collection: Collection) -> Collection:
        """Remove a photo's rows if there are any, and return the collection without it."""
        query = f"SELECT id, seal, {PHOTO_FIELDS} FROM photos WHERE name = ?"  # noqa: S608
        stored = self._connection.execute(query, (raw,)).fetchone()
        if stored is None:
            return collection
        photo, mark, *row = stored
        if seal(*row) != mark:
            raise DamagedIndex(self._path, f"the row of photo {raw!r} has changed")
        self._connection.execute("DELETE FROM patches WHERE photo = ?", (photo,))
        self._connection.execute("DELETE FROM photos WHERE id = ?", (photo,))
        return collection.without_photo(mark)

    def _width_of_index(self) -> int | None:
        """Return the size in bytes of a stored global descriptor; None before the first."""
        if self._width is None:
            query = "SELECT length(descriptor) FROM photos LIMIT 1"
            row = self._connection.execute(query).fetchone()
            self._width = int(row[0]) if row and row[0] else None
        return self._width
