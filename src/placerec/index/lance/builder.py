"""Build an index in Lance: fragments are staged, and one commit makes them all visible."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from placerec.errors import Busy, DamagedIndex, UsageError
from placerec.index import schema
from placerec.index.lance.commit import (
    claimed,
    clean,
    committed,
    discard,
    withdraw,
    write_fragments,
)
from placerec.index.lance.journal import Journal
from placerec.index.lance.place import Place
from placerec.index.lance.reader import LanceReader
from placerec.index.lance.rows import RETRIEVAL, Header, Row, Snapshot, model_row
from placerec.index.lance.writer import LanceWriter
from placerec.index.presets import Storage
from placerec.index.store import Reader
from placerec.index.writer import NOT_YET
from placerec.method.confidence import Calibration
from placerec.records import Features, Position
from placerec.version import __version__

FRAGMENT_BYTES = 1 << 26  # of descriptors: a fragment of about 64 MB is staged at a time


@dataclass(frozen=True, slots=True, eq=False)
class Staged(Features):
    """The features of a photo that another process has stored in a fragment, under this seal."""

    seal: bytes = b""
    patch_sets: int = field(default=0)


class LanceBuilder(LanceWriter):
    """A writer of a new index, which appears when the ``with`` block ends without an exception."""

    def __init__(self, place: Place, header: Header, weights: bytes, *, replace: bool) -> None:
        super().__init__(place, header, None)
        self.dataset, self._fresh = claimed(place, header, replace=replace)
        self._model = model_row(weights, header.collection)
        self._names: set[bytes] = set()  # of staged photos
        self._fragments: list[object] = []
        self._bytes, self._published = 0, False
        self._journal: Journal | None = None

    @classmethod
    def create(
        cls, place: Place, *, root: Path, model: str, fingerprint: str, settings: str,
        weights: bytes, storage: Storage, retriever: schema.RetrieverRow | None = None,
        replace: bool = False,
    ) -> LanceBuilder:  # fmt: skip
        """Begin an index; the arguments are those of ``IndexWriter.create``."""
        if not (model and fingerprint and settings):
            raise UsageError("an index needs the name, fingerprint and settings of its model")
        collection = schema.Collection(
            model, fingerprint, settings, Calibration(reason=NOT_YET).to_json(),
            place.stored_root(Path(root)), __version__,
        )  # fmt: skip
        return cls(place, Header.new(collection, storage, retriever), weights, replace=replace)

    def put(
        self, name: str, sha256: str, position: Position | None, features: Features, *,
        gps_damaged: bool = False, blank: bool = False, restored: bool = False,
    ) -> None:  # fmt: skip
        """Add one photo. A name that was staged already is refused."""
        raw = schema.name_bytes(name)
        if isinstance(features, Staged):
            self._refuse_staged(raw)
            sets = features.patch_sets
            values = schema.photo_row(name, sha256, position, sets, gps_damaged, blank)
            if schema.seal(*values) != features.seal:
                raise DamagedIndex(self._place.address, f"{name!r} was staged with other values")
            self._count(raw, features.seal)
            return
        super().put(
            name, sha256, position, features, gps_damaged=gps_damaged, blank=blank,
            restored=restored,
        )  # fmt: skip
        if row := self._changes[raw]:
            self._bytes += sum(
                map(len, [row["descriptor"], row[RETRIEVAL] or b"", *row["patches"]])
            )
        if self._bytes >= FRAGMENT_BYTES:
            self._stage()

    @property
    def place(self) -> Place:
        """Where the index is."""
        return self._place

    @property
    def storage(self) -> Storage:
        """How descriptors are stored."""
        return self._header.storage

    @property
    def retriever(self) -> schema.RetrieverRow | None:
        """What the index states about its retriever."""
        return self._header.retriever

    def keep_staged(self, journal: Journal) -> Journal:
        """Keep what was staged if the build ends early: a journal notes it for the next one."""
        self._journal = journal
        return journal

    def adopt(self, fragments: Sequence[object]) -> None:
        """Take fragments that another process has staged; ``put`` names each of their photos."""
        self._fragments += fragments

    def calibrate(self, calibrate: Callable[[Reader], Calibration]) -> None:
        """Store the calibration that ``calibrate`` makes of what was stored so far."""
        self._refuse_ended()
        with self._ending():
            with LanceReader(self._complete(detached=True), detached=True) as reader:
                calibration = calibrate(reader).to_json()
            self._change(self._header.collection._replace(calibration=calibration))

    def commit(self) -> None:
        """Do nothing: a build becomes durable as a whole."""
        self._refuse_ended()

    def close(self) -> None:
        """Delete what was staged, unless the index was published."""
        super().close()
        if not (self._published or (self._journal and self._fragments)):
            discard(self._place, self._fragments)
            if self._fresh:
                withdraw(self._place, self.dataset)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._refuse_ended()
                self._complete(detached=True)  # all rows are read back before anybody sees them
                newest = self._complete(detached=False)
                self._published = True
                if self._journal:
                    self._journal.drop()
                clean(self._place, newest.dataset)
        except DamagedIndex:  # what was staged is not what the journal says
            if self._journal:
                self._journal.drop()
                self._journal = None
            raise
        finally:
            self.close()

    def _complete(self, *, detached: bool) -> Snapshot:
        """Commit what was staged in place of the old version."""
        self._stage()
        if self._header.collection.photos == 0:
            address = self._place.address
            raise UsageError(f"{address}: no photo came in, so no index was made")
        rows = write_fragments(self._place, [self._header.row, self._model], self.dataset)
        old = [fragment.fragment_id for fragment in self.dataset.get_fragments()]
        new = [*self._fragments, *rows]
        dataset = committed(self._place, self.dataset, old, [], new, detached=detached)
        try:
            return Snapshot.open(self._place, dataset)
        except DamagedIndex as error:  # Lance bases a detached version on the newest one
            if detached and self.dataset.latest_version != self.dataset.version:
                raise Busy(self._place.address) from error
            raise

    def _stage(self) -> None:
        """Write the photos in memory to a fragment."""
        rows = [row for row in self._changes.values() if row]
        if rows:
            self._fragments += write_fragments(self._place, rows, self.dataset)
        for row in rows:
            self._count(row["name"], row["seal"])
        self._changes, self._bytes = {}, 0

    def _count(self, raw: bytes, mark: bytes) -> None:
        self._names.add(raw)
        self._change(self._header.collection.with_photo(mark))

    def _change(self, collection: schema.Collection) -> None:
        self._header = dataclasses.replace(self._header, collection=collection)

    def _row(self, raw: bytes) -> Row | None:
        self._refuse_staged(raw)
        return super()._row(raw)

    def _check_width(self, name: str, what: str, column: str, width: int) -> None:
        self._refuse_staged(schema.name_bytes(name))
        super()._check_width(name, what, column, width)

    def _refuse_staged(self, raw: bytes) -> None:
        if raw in self._names:
            raise UsageError(f"{raw.decode(errors='replace')!r}: it is stored already; a build "
                             f"changes no photo")  # fmt: skip
