"""Change an index in Lance: a batch is rows in memory, then one fragment, then one commit.

No lock is taken. If another process has committed in between, the batch is made again on the newest
version, unless both changed the same photo, the folder or the model: that is ``Busy``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from placerec.errors import Busy, UsageError
from placerec.index import schema
from placerec.index.lance.commit import committed, without, write_fragments
from placerec.index.lance.place import Place
from placerec.index.lance.rows import RETRIEVAL, Header, Row, Version, photo_row, renamed
from placerec.index.store import Reader
from placerec.method.confidence import Calibration
from placerec.records import Features, Position

TRIES = 20  # of a commit


class LanceWriter:
    """A writer of an index; a context manager, made by ``open``; its subclass builds one."""

    def __init__(self, place: Place, header: Header, base: Version | None) -> None:
        self._place, self._header, self._base = place, header, base
        self._changes: dict[bytes, Row | None] = {}  # by name; ``None`` removes the photo
        self._widths: dict[str, int] = {}  # bytes of the descriptors, by column; empty at first
        self._ended = ""  # why it cannot be used any longer

    @classmethod
    def open(cls, place: Place) -> Self:
        """Open an index for changes; no lock is taken."""
        base = Version.of(place, place.dataset())
        return cls(place, base.header, base)

    def put(
        self, name: str, sha256: str, position: Position | None, features: Features, *,
        gps_damaged: bool = False, blank: bool = False, restored: bool = False,
    ) -> None:  # fmt: skip
        """Add one photo, or replace the photo of that name."""
        self._refuse_ended()
        row = photo_row(
            name, sha256, position, features, self._header.storage, self._header.retriever,
            gps_damaged=gps_damaged, blank=blank, restored=restored,
        )  # fmt: skip
        self._check_width(name, "global descriptor", "descriptor", len(row["descriptor"]))
        if row[RETRIEVAL]:
            width = len(row[RETRIEVAL])
            self._check_width(name, "descriptor of the retriever", RETRIEVAL, width)
        self._changes[row["name"]] = row

    def remove(self, name: str) -> bool:
        """Remove a photo; return False if there is none of that name."""
        self._refuse_ended()
        raw = schema.name_bytes(name)
        if self._row(raw) is None:
            return False
        self._changes[raw] = None
        return True

    def rename(self, name: str, new: str) -> bool:
        """Give a photo another name, in place of a photo of that name; return False without it."""
        self._refuse_ended()
        raw, target = schema.name_bytes(name), schema.name_bytes(new)
        row = self._row(raw)
        if row is None or raw == target:
            return row is not None
        self._changes |= {raw: None, target: self._renamed(row, target)}
        return True

    def move_root(self, root: Path) -> None:
        """Point the index to another photo folder; the names of the photos stay."""
        self._refuse_ended()
        collection = self._header.collection._replace(root=self._place.stored_root(root))
        self._header = replace(self._header, collection=collection)

    def calibrate(self, calibrate: Callable[[Reader], Calibration]) -> None:  # noqa: ARG002
        """Refuse: only an index that is being built is calibrated."""
        raise UsageError(f"{self._place.address}: only a new index is calibrated; refit this one")

    def commit(self) -> None:
        """Make the open batch durable; do nothing without one."""
        self._refuse_ended()
        if self._base is None or not (self._changes or self._header != self._base.header):
            return
        with self._ending():
            for _ in range(TRIES):
                try:
                    dataset = self._commit(self._base)
                    break
                except Busy:
                    if (newer := self._rebased(self._base)) is None:
                        raise
                    self._base = newer
            else:
                raise Busy(self._place.address)
            self._base = Version.of(self._place, dataset)
            self._header, self._changes = self._base.header, {}

    def close(self) -> None:
        """Drop the open batch."""
        self._ended = self._ended or "this writer is closed"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.commit()
        finally:
            self.close()

    def _commit(self, base: Version) -> Any:
        """Commit the changes on top of a version; return the dataset, of which it is the newest."""
        collection = self._header.collection._replace(
            photos=base.header.collection.photos, digest=base.header.collection.digest
        )
        gone = base.seals(self._changes).values()
        for seal in gone:
            collection = collection.with_photo(seal, -1)
        rows = [row for row in self._changes.values() if row]
        for row in rows:
            collection = collection.with_photo(row["seal"])
        if collection.photos == 0:
            address = self._place.address
            raise UsageError(f"{address}: an index needs a photo; delete the folder instead")
        header = replace(self._header, collection=collection)
        new = write_fragments(self._place, [*rows, header.row], base.dataset)
        removed, updated = without(self._place, base.dataset, [base.mark, *gone])
        return committed(self._place, base.dataset, removed, updated, new)

    def _rebased(self, base: Version) -> Version | None:
        """Return the newest version, or ``None`` if it changed something that the batch changes."""
        newest = Version.of(self._place, self._place.dataset())
        ours = self._header.collection
        about = [
            replace(
                version.header,
                collection=version.header.collection._replace(photos=0, digest=b"", root=ours.root),
            )
            for version in (base, newest)
        ]
        before, now = (version.seals(self._changes) for version in (base, newest))
        moved = base.header.collection.root != newest.header.collection.root
        return None if moved or before != now or about[0] != about[1] else newest

    def _renamed(self, row: Row, target: bytes) -> Row:
        return renamed(row, target, self._place, self._header.retriever)

    def _row(self, raw: bytes) -> Row | None:
        """Return the row of a photo as it is with the changes so far."""
        if raw in self._changes or self._base is None:
            return self._changes.get(raw)
        return self._base.row(raw)

    def _check_width(self, name: str, what: str, column: str, width: int) -> None:
        """Raise ``UsageError`` if a descriptor has another length than that of a photo."""
        if column not in self._widths:
            self._widths[column] = self._base.width(column) if self._base else width
        if width != self._widths[column]:
            raise UsageError(
                f"{name!r}: its {what} has {width} bytes, those of the other photos "
                f"{self._widths[column]}; describe all photos of an index with one model"
            )

    @contextmanager
    def _ending(self) -> Iterator[None]:
        """An exception inside ends the writer, so no change is stored in part."""
        try:
            yield
        except BaseException as error:
            self._ended = f"an earlier error has ended this writer ({error})"
            raise

    def _refuse_ended(self) -> None:
        if self._ended:
            raise UsageError(f"{self._place.address}: {self._ended}; open the index again")
