"""Read an index in Lance: names and positions at once, descriptors on demand.

A reader keeps the version that it opened. It does not see later changes; but a photo that was
changed or removed since then raises ``StaleIndex``, as in a SQLite index.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from placerec.errors import (
    Damaged,
    DamagedIndex,
    NotFound,
    PlacerecError,
    StaleIndex,
    UsageError,
)
from placerec.index import codec, schema
from placerec.index.lance.place import Place
from placerec.index.lance.rows import RETRIEVAL, Snapshot, take, where
from placerec.index.packing import Dtype
from placerec.index.reader import READ_BYTES, Entry, IndexInfo, StoredPatches, stated_retriever
from placerec.index.vectors import Vectors, collected
from placerec.records import PatchSet

AT_ONCE = 4096  # photos whose global descriptors are read at once
MOST_FINDINGS = 100


class LanceReader:
    """The photos of one version; a context manager. Threads may share it, a fork may not."""

    def __init__(self, snapshot: Snapshot, *, detached: bool = False) -> None:
        self._detached = detached  # a version of this process alone, which nobody changes
        self._snapshot, self._process, self._closed = snapshot, os.getpid(), False
        place, collection = snapshot.place, snapshot.header.collection
        self.retriever = snapshot.header.retriever
        self._path, self._photos = place.address, snapshot.photos
        self.entries = tuple(
            Entry(
                os.fsdecode(row.name), row.sha256, row.position, bool(row.gps_damaged),
                bool(row.blank),
            )
            for _, _, row in self._photos
        )  # fmt: skip
        with place.errors():
            files = [f for part in snapshot.dataset.get_fragments() for f in part.data_files()]
            size = sum(file.file_size_bytes or 0 for file in files)
        model = len(take(place, snapshot.dataset, [snapshot.model], "descriptor")[0]["descriptor"])
        self.info = IndexInfo(
            photos=len(self.entries),
            bytes=size,
            bytes_per_photo=max(0, size - model) / len(self.entries),
            model=collection.model,
            fingerprint=collection.fingerprint,
            settings=collection.settings,
            root=collection.root_of(place.beside),
            created_with=collection.created_with,
            format=snapshot.header.format,
            preset=snapshot.header.storage.name,
            calibration=collection.calibration_of(self._path),
            leftovers=(),
            **stated_retriever(self.retriever),
        )

    @classmethod
    def open(cls, place: Place) -> Self:
        """Open the newest version and check all but its descriptors."""
        return cls(Snapshot.open(place, place.dataset()))

    @property
    def digest(self) -> bytes:
        """What changes with the collection of photos."""
        return self._snapshot.header.collection.digest

    def global_descriptors(self) -> Vectors:
        """Return the global descriptors (N, G) in the order of ``entries``."""
        dtype = self._snapshot.header.storage.descriptor
        return self._vectors("descriptor", lambda seal: seal, dtype)

    def retrieval_descriptors(self) -> Vectors | None:
        """Return the retriever's descriptors (N, R), or ``None`` without a retriever."""
        if self.retriever is None:
            return None
        return self._vectors(RETRIEVAL, self.retriever.key, self._snapshot.header.storage.retrieval)

    def _vectors(self, column: str, key: Callable[[bytes], bytes], dtype: Dtype) -> Vectors:
        """Return a vector of each photo from the blobs of a column.

        ``key`` returns the codec key of a photo's vector from its seal.
        """
        parts = self._in_parts(range(len(self._photos)), AT_ONCE, column)
        vectors = (
            codec.stored_vector(row[column] or b"", key(photo.seal), self._path, dtype)
            for photos, rows in parts
            for photo, row in zip(photos, rows, strict=True)
        )
        try:
            return collected(vectors, len(self._photos), dtype)
        except ValueError as error:
            raise DamagedIndex(self._path, str(error)) from error

    def photo_path(self, name: str) -> Path:
        """Return the path of the indexed photo ``name`` on this machine."""
        return self.info.root / name

    def patches(self, position: int) -> tuple[PatchSet, ...]:
        """Return the patch sets of ``entries[position]`` in the order in which they were put."""
        return next(self.read_patches([position])).decode()

    def read_patches(self, positions: Sequence[int]) -> Iterator[StoredPatches]:
        """Yield the stored patch sets of these entries, read about 256 MB at a time."""
        at_once = max(1, READ_BYTES // max(1, int(self.info.bytes_per_photo)))
        for photos, rows in self._in_parts(positions, at_once, "patches"):
            for photo, row in zip(photos, rows, strict=True):
                if len(row["patches"] or ()) != photo.row.patch_sets:
                    name = os.fsdecode(photo.row.name)
                    raise DamagedIndex(self._path, f"descriptors of {name!r} are missing")
                blobs = tuple(row["patches"] or ())
                dtype = self._snapshot.header.storage.patches
                yield StoredPatches(blobs, photo.seal, self._path, dtype)

    def weights(self) -> bytes:
        """Return the fitted model as it was given to ``create``."""
        self._refuse_unusable()
        (row,) = take(
            self._snapshot.place, self._snapshot.dataset, [self._snapshot.model], "descriptor"
        )
        key = self._snapshot.header.collection.weights_key()
        return codec.decode_bytes(row["descriptor"], key, self._path)

    def has_changed(self) -> bool:
        """Whether there is a newer version, or the index was deleted."""
        self._refuse_unusable()
        if self._detached:
            return False
        try:
            with self._snapshot.place.errors():
                return bool(self._snapshot.dataset.latest_version != self._snapshot.dataset.version)
        except PlacerecError:
            return True

    def close(self) -> None:
        """Forget the version; ``entries`` and ``info`` stay valid."""
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def findings(self) -> list[str]:
        """Return what is wrong with the descriptors and the model; the rows were checked."""
        result = []
        for number, entry in enumerate(self.entries):
            try:
                self.patches(number)
                self._check_vectors(number)
            except Damaged as error:
                result.append(f"photo {entry.name!r:.200}: {error}")
            if len(result) == MOST_FINDINGS:
                return result
        try:
            self.weights()
            self.global_descriptors()
            self.retrieval_descriptors()
        except Damaged as error:
            result.append(str(error))
        return list(dict.fromkeys(result))

    def _check_vectors(self, number: int) -> None:
        """Raise ``DamagedIndex`` if a descriptor of this photo is damaged."""
        storage, seal = self._snapshot.header.storage, self._photos[number].seal
        columns = [("descriptor", seal, storage.descriptor)]
        if self.retriever:
            columns.append((RETRIEVAL, self.retriever.key(seal), storage.retrieval))
        for column, key, dtype in columns:
            ((_, rows),) = self._in_parts([number], 1, column)
            codec.decode_vector(rows[0][column] or b"", key, self._path, dtype)

    def _in_parts(
        self, positions: Sequence[int], at_once: int, column: str
    ) -> Iterator[tuple[list[schema.StoredPhoto], list[dict[str, Any]]]]:
        """Yield photos and a column of their rows, ``at_once`` at a time."""
        snapshot = self._snapshot
        for first in range(0, len(positions), at_once):
            self._refuse_unusable()
            photos = [self._photos[n] for n in positions[first : first + at_once]]
            try:
                self._refuse_changed(photos)
                rows = take(snapshot.place, snapshot.dataset, [p.number for p in photos], column)
            except (DamagedIndex, NotFound) as error:
                if self.has_changed():  # its files may be deleted a day later
                    raise StaleIndex(self._path, "it was replaced or deleted") from error
                raise
            yield photos, rows

    def _refuse_changed(self, photos: Sequence[schema.StoredPhoto]) -> None:
        """Raise ``StaleIndex`` if one of these photos is no longer in the newest version."""
        if not self.has_changed():
            return
        place, seals = self._snapshot.place, {photo.seal: photo for photo in photos}
        with place.errors():
            rows = place.dataset().to_table(columns=["seal"], filter=where(seals))
        for seal in set(seals).difference(rows["seal"].to_pylist()):
            name = os.fsdecode(seals[seal].row.name)
            raise StaleIndex(self._path, f"{name!r} or other photos were changed")

    def _refuse_unusable(self) -> None:
        if os.getpid() != self._process:
            raise UsageError(
                f"{self._path}: process {self._process} opened this reader, and it cannot be used "
                f"after a fork; open the index again in process {os.getpid()}"
            )
        if self._closed:
            raise UsageError(f"{self._path}: this reader is closed; open the index again")
