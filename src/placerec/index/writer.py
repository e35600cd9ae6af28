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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from placerec.errors import DamagedIndex, UsageError
from placerec.index import codec, publish, schema
from placerec.index.connection import on_error, open_checked, translated
from placerec.index.presets import Storage
from placerec.index.reader import IndexReader
from placerec.index.verify import findings
from placerec.method.confidence import Calibration
from placerec.records import Features, Position
from placerec.version import __version__

NOT_YET = "the index was built without a calibration"
_INSERT_PHOTO = (
    f"INSERT INTO photos ({schema.PHOTO_FIELDS}, seal, descriptor)"  # noqa: S608
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_INSERT_PATCHES = "INSERT INTO patches (photo, ordinal, descriptors) VALUES (?, ?, ?)"
_WIDTHS = {  # bytes of a descriptor that is stored already
    "global descriptor": "SELECT length(descriptor) FROM photos LIMIT 1",
    "descriptor of the retriever": "SELECT length(descriptor) FROM retrieval LIMIT 1",
}


class IndexWriter:
    """The only writer of an index; a context manager, made by ``create`` or ``open``."""

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        storage: Storage,
        retriever: schema.RetrieverRow | None,
        staged: publish.Staging | None = None,
    ) -> None:
        self._path, self._connection, self._staged = path, connection, staged
        self._storage, self._retriever = storage, retriever
        self._collection: schema.Collection | None = None  # None: no batch is open
        self._ended = ""  # why it cannot be used any longer

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
        storage: Storage,
        retriever: schema.RetrieverRow | None = None,
        replace: bool = False,
    ) -> Self:
        """Begin an index of the photos below ``root``, described by one model and a ``retriever``.

        ``fingerprint`` is the hex text of the model, ``settings`` its JSON text and ``weights`` its
        bytes; this class does not interpret them. ``storage`` is a preset (``presets.PRESETS``).
        With ``replace`` an existing index (but no other file) is replaced at the end.
        """
        path, root = Path(path), Path(root)
        if not (model and fingerprint and settings):
            raise UsageError("an index needs the name, fingerprint and settings of its model")
        row = schema.Collection(
            model, fingerprint, settings, Calibration(reason=NOT_YET).to_json(),
            schema.relative_root(root, path), __version__,
        )  # fmt: skip
        blob = codec.encode_bytes(weights, row.weights_key())
        staged = publish.claim(path, replace=replace)
        writer = cls(path, staged.connection, storage, retriever, staged)
        with on_error(writer.close), translated(path):
            schema.create_tables(staged.connection, storage, retriever=retriever is not None)
            row.write(staged.connection)
            if retriever:
                retriever.write(staged.connection)
            staged.connection.execute("INSERT INTO weights VALUES (1, ?)", (blob,))
            staged.connection.execute("COMMIT")
        return writer

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Open an index for changes; raise Busy if another process still writes after 5 s.

        New descriptors are stored with the preset of the index.
        """
        path = Path(path)
        connection = open_checked(path, "rw")
        writer = cls(path, connection, schema.FORMATS[schema.format_of(connection)], None)
        with on_error(writer.close), translated(path):
            writer._retriever = schema.RetrieverRow.read(connection, path)
            writer._collection = schema.Collection.read(connection, path)
        return writer

    def put(
        self,
        name: str,
        sha256: str,
        position: Position | None,
        features: Features,
        *,
        gps_damaged: bool = False,
        blank: bool = False,
        restored: bool = False,
    ) -> None:
        """Add one photo, or replace the photo of that name (its POSIX path below the root).

        ``gps_damaged`` and ``blank`` are stored as facts of the photo (see ``Entry``). The features
        may be ``restored`` from an index.
        """
        patch_sets = len(features.patches)
        row = schema.photo_row(name, sha256, position, patch_sets, gps_damaged, blank)
        mark = schema.seal(*row)
        descriptor, sets = self._storage.encode(features, mark, restored=restored)
        key = self._retriever and self._retriever.key(mark)
        retrieval = self._storage.encode_retrieval(name, features, key)
        self._check_width(name, "global descriptor", descriptor)
        if retrieval:
            self._check_width(name, "descriptor of the retriever", retrieval)
        with self._batch() as collection:
            collection = self._delete(row.name, collection)
            photo = self._connection.execute(_INSERT_PHOTO, (*row, mark, descriptor)).lastrowid
            rows = ((photo, ordinal, blob) for ordinal, blob in enumerate(sets))
            self._connection.executemany(_INSERT_PATCHES, rows)
            if retrieval:
                self._connection.execute("INSERT INTO retrieval VALUES (?, ?)", (photo, retrieval))
            self._collection = collection.with_photo(mark)

    def _check_width(self, name: str, what: str, blob: bytes) -> None:
        """Raise ``UsageError`` if a stored descriptor has another length than that of a photo."""
        with self._batch():
            first = self._connection.execute(_WIDTHS[what]).fetchone()
        width = first[0] if first and first[0] else len(blob)
        if len(blob) != width:
            raise UsageError(
                f"{name!r}: its {what} has {len(blob)} bytes, those of the other photos {width}; "
                f"describe all photos of an index with one model"
            )

    def remove(self, name: str) -> bool:
        """Remove a photo; return False if there is none of that name."""
        raw = schema.name_bytes(name)
        with self._batch() as collection:
            self._collection = self._delete(raw, collection)
            return self._collection is not collection

    def rename(self, name: str, new: str) -> bool:
        """Give a photo another name, in place of a photo of that name; return False without it.

        Its descriptors stay bit for bit; they are stored under the key of the new row.
        """
        raw, target = schema.name_bytes(name), schema.name_bytes(new)
        with self._batch() as collection:
            photos = schema.stored_photos(self._connection, raw)
            if not photos or raw == target:
                return bool(photos)
            (photo,) = photos
            if photo.damage:
                raise DamagedIndex(self._path, photo.damage)
            collection = self._delete(target, collection).with_photo(photo.seal, -1)
            self._collection = collection.with_photo(self._rename(photo, target))
            return True

    def _rename(self, photo: schema.StoredPhoto, target: bytes) -> bytes:
        """Change the rows of a photo to the name ``target``, and return its new seal."""
        row = photo.row.renamed(target)
        old, new, path = photo.seal, schema.seal(*row), self._path
        run, number = self._connection.execute, photo.number
        (blob,) = run("SELECT descriptor FROM photos WHERE id = ?", (number,)).fetchone()
        values = (row.name, row.display, new, codec.with_key(blob, old, new, path), number)
        run(
            "UPDATE photos SET name = ?, display = ?, seal = ?, descriptor = ? WHERE id = ?", values
        )
        query = "SELECT ordinal, id, descriptors FROM patches WHERE photo = ? ORDER BY ordinal"
        sets = run(query, (number,)).fetchall()
        if [ordinal for ordinal, _, _ in sets] != list(range(row.patch_sets)):
            raise DamagedIndex(path, f"descriptors of {row.display!r} are missing")
        if self._retriever:
            query = "SELECT descriptor FROM retrieval WHERE photo = ?"
            (blob,) = run(query, (number,)).fetchone() or (None,)
            blob = codec.with_key(blob, self._retriever.key(old), self._retriever.key(new), path)
            run("UPDATE retrieval SET descriptor = ? WHERE photo = ?", (blob, number))
        for ordinal, patches, blob in sets:
            key, new_key = codec.patch_key(old, ordinal), codec.patch_key(new, ordinal)
            blob = codec.with_key(blob, key, new_key, path)
            run("UPDATE patches SET descriptors = ? WHERE id = ?", (blob, patches))
        return new

    def move_root(self, root: Path) -> None:
        """Point the index to another photo folder; the names of the photos stay."""
        with self._batch() as collection:
            self._collection = collection._replace(root=schema.relative_root(root, self._path))

    def calibrate(self, calibrate: Callable[[IndexReader], Calibration]) -> None:
        """Store the calibration that ``calibrate`` makes of what was stored so far.

        Only for an index that is being built (``create``).
        """
        self.commit()
        path = self._staged.partial if self._staged else self._path
        with translated(self._path):
            self._connection.execute("BEGIN")
            reader = IndexReader(path, self._connection)
        calibration = calibrate(reader)
        with self._batch() as collection:
            self._collection = collection._replace(calibration=calibration.to_json())

    def commit(self) -> None:
        """Make the open batch durable; do nothing without one."""
        self._refuse_ended()
        if self._collection is None:
            return
        if self._collection.photos == 0:
            raise UsageError(f"{self._path}: an index needs a photo; delete the index instead")
        with self._batch() as collection:
            if collection != schema.Collection.read(self._connection, self._path):
                collection.write(self._connection)
            self._connection.execute("COMMIT")
            self._collection = None

    def close(self) -> None:
        """Drop the open batch, and with ``create`` the unpublished index."""
        self._ended = self._ended or "this writer is closed"
        if self._staged is not None:
            publish.discard(self._staged)  # while its lock is still held
            self._staged = None
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
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
    def _batch(self) -> Iterator[schema.Collection]:
        """Open a batch if none is open; an exception inside ends the writer."""
        self._refuse_ended()
        try:
            with translated(self._path):
                if self._collection is None:
                    self._connection.execute("BEGIN IMMEDIATE")
                    self._collection = schema.Collection.read(self._connection, self._path)
                yield self._collection
        except BaseException as error:
            self._collection = None
            self._ended = f"an earlier error has ended this writer ({error})"
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _refuse_ended(self) -> None:
        if self._ended:
            raise UsageError(f"{self._path}: {self._ended}; open the index again")

    def _delete(self, raw: bytes, collection: schema.Collection) -> schema.Collection:
        """Remove a photo's rows if there are any, and return the collection without it."""
        for photo in schema.stored_photos(self._connection, raw):  # one at most: names are unique
            if photo.damage:
                raise DamagedIndex(self._path, photo.damage)
            self._connection.execute("DELETE FROM patches WHERE photo = ?", (photo.number,))
            if self._retriever:
                self._connection.execute("DELETE FROM retrieval WHERE photo = ?", (photo.number,))
            self._connection.execute("DELETE FROM photos WHERE id = ?", (photo.number,))
            collection = collection.with_photo(photo.seal, -1)
        return collection
