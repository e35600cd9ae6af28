"""What an index needs of the place where it is stored, and which place an address names.

An address is a path: ``town.placerec`` is a SQLite file, ``lance:FOLDER`` and ``lance:s3://...`` a
folder of Lance (``index/lance``). No other module knows which of them it has. A new store is one
class with the five calls of ``Store``, and one line in ``store_of``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, Self

from placerec.files import path_of
from placerec.index.presets import Storage
from placerec.index.publish import refuse_other_file
from placerec.index.reader import Entry, IndexInfo, IndexReader, StoredPatches
from placerec.index.schema import RetrieverRow
from placerec.index.vectors import Vectors
from placerec.index.verify import verify as verify_file
from placerec.index.writer import IndexWriter
from placerec.method.confidence import Calibration
from placerec.records import Features, PatchSet, Position

LANCE = "lance:"  # how the address of a folder of Lance begins


class Reader(Protocol):
    """The photos of an index as they were when it was opened; a context manager.

    ``entries`` are sorted by the bytes of their names, and a photo's number is its place there.
    """

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The photos."""

    @property
    def info(self) -> IndexInfo:
        """What the index states."""

    @property
    def retriever(self) -> RetrieverRow | None:
        """What makes the shortlists in place of the model, if there is one."""

    @property
    def digest(self) -> bytes:
        """What changes with the collection of photos."""

    def global_descriptors(self) -> Vectors:
        """Return the global descriptors (N, G) in the order of ``entries``."""

    def retrieval_descriptors(self) -> Vectors | None:
        """Return the retriever's descriptors (N, R), or ``None`` without a retriever."""

    def photo_path(self, name: str) -> Path:
        """Return the path of the indexed photo ``name`` on this machine."""

    def patches(self, position: int) -> tuple[PatchSet, ...]:
        """Return the patch sets of ``entries[position]``."""

    def read_patches(self, positions: Sequence[int]) -> Iterator[StoredPatches]:
        """Yield the stored patch sets of these entries; raise ``StaleIndex`` for a changed one."""

    def weights(self) -> bytes:
        """Return the fitted model as it was given to ``create``."""

    def has_changed(self) -> bool:
        """Whether the index was changed, replaced or deleted since it was opened; cheap."""

    def close(self) -> None:
        """Close the index; ``entries``, ``info`` and ``retriever`` stay valid."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...


class Writer(Protocol):
    """The changes of an index, in batches; a context manager.

    A batch is everything between two ``commit`` calls. It is stored completely or not at all. An
    index from ``create`` appears as a whole when the ``with`` block ends without an exception.
    Raises ``Busy`` if another process writes, and ``NoRoom`` if nothing can be written.
    """

    def put(
        self, name: str, sha256: str, position: Position | None, features: Features, *,
        gps_damaged: bool = False, blank: bool = False, restored: bool = False,
    ) -> None:  # fmt: skip
        """Add one photo, or replace the photo of that name."""

    def remove(self, name: str) -> bool:
        """Remove a photo; return False if there is none of that name."""

    def rename(self, name: str, new: str) -> bool:
        """Give a photo another name, in place of a photo of that name; return False without it."""

    def move_root(self, root: Path) -> None:
        """Point the index to another photo folder; the names of the photos stay."""

    def calibrate(self, calibrate: Callable[[Reader], Calibration]) -> None:
        """Store the calibration that ``calibrate`` makes of an index that is being built."""

    def commit(self) -> None:
        """Make the open batch durable; do nothing without one."""

    def close(self) -> None:
        """Drop the open batch, and with ``create`` the unpublished index."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None: ...


class Store(Protocol):
    """One way to store indexes. ``path`` is an address; errors name it."""

    def read(self, path: Path) -> Reader:
        """Open an index and check all but its descriptors, which are checked when read."""

    def change(self, path: Path) -> Writer:
        """Open an index for changes."""

    def create(
        self, path: Path, *, root: Path, model: str, fingerprint: str, settings: str,
        weights: bytes, storage: Storage, retriever: RetrieverRow | None = None,
        replace: bool = False,
    ) -> Writer:  # fmt: skip
        """Begin an index; the arguments are those of ``IndexWriter.create``."""

    def verify(self, path: Path) -> list[str]:
        """Return what is wrong with an index as a list of texts; empty if it is sound."""

    def exists(self, path: Path) -> bool:
        """Whether there is an index; raise ``UsageError`` for anything else, which stays."""


class SqliteStore:
    """An index in one SQLite file."""

    read = staticmethod(IndexReader.open)
    change = staticmethod(IndexWriter.open)
    create = staticmethod(IndexWriter.create)
    verify = staticmethod(verify_file)

    def exists(self, path: Path) -> bool:
        """Whether there is an index."""
        refuse_other_file(path)
        return os.path.lexists(path)


def store_of(path: Path | str) -> Store:
    """Return the store that an address names."""
    if is_lance(path):
        from placerec.index.lance import LanceStore  # needs the extra

        return LanceStore()
    return SqliteStore()


def is_lance(path: Path | str) -> bool:
    """Whether an address names a folder of Lance."""
    return str(path).startswith(LANCE)


def folder_beside(path: Path) -> Path:
    """Return the folder to which paths in an index are relative; ``/`` in an object store."""
    if is_lance(path):
        from placerec.index.lance.place import Place

        path = Place.of(path).beside
    return path.resolve().parent


def open_index(path: Path | str) -> Reader:
    """Open the index at any address for reading."""
    path = path_of(path)
    return store_of(path).read(path)


def verify(path: Path | str) -> list[str]:
    """Return what is wrong with the index at any address as a list of texts; empty if it is sound.

    Raises NotFound or NotAnIndex if there is no index, and Busy if another process writes to it.
    """
    path = path_of(path)
    return store_of(path).verify(path)
