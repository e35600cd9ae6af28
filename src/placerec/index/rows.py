"""The rows of an index as values: one row about the collection, and one row per photo.

Writer, reader and verify use these, so a row is sealed and checked in one place.
"""

from __future__ import annotations

import math
import os
import sqlite3
from dataclasses import dataclass, replace
from pathlib import Path

from placerec.errors import DamagedIndex, UsageError
from placerec.index.schema import seal
from placerec.records import Position

DIGEST_BYTES = 16
DIGEST_MODULUS = 2**128
PHOTO_FIELDS = "name, display, sha256, latitude, longitude, heading, patch_sets"

PhotoRow = tuple[bytes, str, str, float | None, float | None, float | None, int]


@dataclass(frozen=True, slots=True)
class Collection:
    """The row about the whole index; ``root`` is relative to the folder of the index file."""

    model: str
    fingerprint: str
    settings: str
    root: bytes
    created_with: str
    photos: int = 0
    digest: bytes = bytes(DIGEST_BYTES)

    @classmethod
    def read(cls, connection: sqlite3.Connection, path: Path) -> Collection:
        """Return the row; raise DamagedIndex if it is missing or does not match its seal."""
        fields = "model, fingerprint, settings, root, created_with, photos, digest, seal"
        row = connection.execute(f"SELECT {fields} FROM collection WHERE id = 1").fetchone()  # noqa: S608
        if row is None:
            raise DamagedIndex(path, "the row about the collection is missing")
        *values, mark = row
        if seal(*values) != mark:
            raise DamagedIndex(path, "the row about the collection has changed")
        return cls(*values)

    def write(self, connection: sqlite3.Connection) -> None:
        """Store the row with its seal."""
        about = (self.model, self.fingerprint, self.settings, self.root, self.created_with)
        values = (*about, self.photos, self.digest)
        connection.execute(
            "INSERT OR REPLACE INTO collection VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*values, seal(*values)),
        )

    def with_photo(self, mark: bytes) -> Collection:
        """Return the row with one more photo, which has this seal."""
        return replace(self, photos=self.photos + 1, digest=add_seal(self.digest, mark))

    def without_photo(self, mark: bytes) -> Collection:
        """Return the row without the photo that has this seal."""
        return replace(self, photos=self.photos - 1, digest=add_seal(self.digest, mark, -1))

    def weights_key(self) -> bytes:
        """Return the codec key of the fitted model with this fingerprint."""
        return seal("weights", self.model, self.fingerprint)

    def root_of(self, path: Path) -> Path:
        """Return the absolute photo folder of the index at ``path``."""
        return Path(os.path.normpath(path.resolve().parent / os.fsdecode(self.root)))


def add_seal(digest: bytes, mark: bytes, sign: int = 1) -> bytes:
    """Add a seal to a digest, or subtract it, modulo 2**128."""
    total = int.from_bytes(digest, "little") + sign * int.from_bytes(mark, "little")
    return (total % DIGEST_MODULUS).to_bytes(DIGEST_BYTES, "little")


def relative_root(root: Path, path: Path) -> bytes:
    """Return the photo folder relative to the folder of the index; both can be moved together."""
    return os.fsencode(os.path.relpath(root.resolve(), path.parent.resolve()))


def photo_row(name: str, sha256: str, position: Position | None, patch_sets: int) -> PhotoRow:
    """Return the sealed part of a photo's row; raise UsageError for an invalid value."""
    raw = name_bytes(name)
    if not sha256:
        raise UsageError(f"{name!r}: a photo needs the sha256 of its file")
    latitude = longitude = heading = None
    if position is not None:
        latitude = _finite(name, "latitude", position.latitude)
        longitude = _finite(name, "longitude", position.longitude)
        if position.heading is not None:
            heading = _finite(name, "heading", position.heading)
    display = raw.decode("utf-8", "replace")
    return raw, display, sha256, latitude, longitude, heading, patch_sets


def position_of(row: PhotoRow) -> Position | None:
    """Return the position in a row whose seal is right."""
    latitude, longitude, heading = row[3:6]
    if latitude is None or longitude is None:
        return None
    return Position(latitude, longitude, heading)


def name_bytes(name: str) -> bytes:
    """Return the raw bytes of a photo's name: a plain path relative to the photo folder."""
    raw = os.fsencode(name)
    if not is_relative(raw):
        raise UsageError(f"{name!r}: give a photo's path relative to the photo folder")
    return raw


def is_relative(raw: bytes) -> bool:
    """Whether a name is a normal relative path; ``..`` is only allowed at its start."""
    parts = raw.split(b"/")
    while len(parts) > 1 and parts[0] == b"..":
        del parts[0]
    return not {b"", b".", b".."}.intersection(parts) and b"\0" not in raw


def _finite(name: str, what: str, value: float) -> float:
    """Return a plain float; -0.0 becomes 0.0, as in SQLite."""
    number = float(value)
    if not math.isfinite(number):
        raise UsageError(f"{name!r}: {what} is {number}; give degrees, or no position")
    return number + 0.0
