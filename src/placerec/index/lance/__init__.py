"""The index as a folder of Lance: on a disk, on NFS, or in an object store (``lance:s3://...``).

Read in this order: ``place`` (addresses and errors), ``rows`` (what is stored), ``reader``,
``commit``, ``writer``, ``builder``; ``speedup`` is a cache. The folder is one Lance dataset. Each
of its versions is complete and never changes, so a reader keeps the version that it opened, and one
commit makes all changes of a batch visible. Descriptors are blobs of ``codec``, as in a SQLite
index, so damage is an error and never a wrong number.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from placerec.errors import Damaged, NotFound
from placerec.index.lance.builder import LanceBuilder
from placerec.index.lance.place import Place
from placerec.index.lance.reader import LanceReader
from placerec.index.lance.writer import LanceWriter
from placerec.index.store import Reader, Writer


class LanceStore:
    """An index in a folder of Lance."""

    def read(self, path: Path) -> Reader:
        """Open the newest version of an index."""
        return LanceReader.open(Place.of(path))

    def change(self, path: Path) -> Writer:
        """Open an index for changes."""
        return LanceWriter.open(Place.of(path))

    def create(self, path: Path, **about: Any) -> Writer:
        """Begin an index."""
        return LanceBuilder.create(Place.of(path), **about)

    def verify(self, path: Path) -> list[str]:
        """Return what is wrong with an index."""
        try:
            with LanceReader.open(Place.of(path)) as reader:
                return reader.findings()
        except Damaged as error:
            return [str(error)]

    def exists(self, path: Path) -> bool:
        """Whether there is an index; raise ``UsageError`` for anything else, which stays."""
        place = Place.of(path)
        try:
            with LanceReader.open(place):
                return True
        except Damaged:
            return True
        except NotFound:
            place.refuse_other_files()
            return False
