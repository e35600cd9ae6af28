"""The tables of an index, their rows as values, and the check that a file has these tables only.

The tables are STRICT; without it SQLite stores NumPy scalars as blobs and NaN as NULL. A view, a
trigger or an extra table can make SQLite run foreign expressions, so the stored schema is compared
with ours, text by text.

The format of an index (SQLite's ``user_version``) states the preset of its storage, and whether it
has two more tables: the retriever, and its descriptor of each photo. Earlier formats did not store
the calibration as it is now.

A ``seal`` detects damage of a row: 16 bytes of BLAKE2b over the row's other values. The seal of a
photo is the key of its blobs (codec.py). The sum of all seals modulo 2**128 is the ``digest`` of
the collection: it does not depend on the order, and one photo updates it in constant time.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import NamedTuple, Self

from placerec.errors import DamagedIndex, ModelMismatch, NotAnIndex, UsageError
from placerec.index.presets import BYTES, COMPACT, EXACT, SMALL, Storage
from placerec.method.confidence import Calibration
from placerec.records import Position

APPLICATION_ID = 0x504C5243  # "PLRC", at byte 68 of the file
BUILD_AGAIN = "delete it and build it again from the photos: placerec index build INDEX FOLDER"
PAGE_BYTES = 4096
SEAL_BYTES = 16
DIGEST_MODULUS = 2**128

FORMATS = {7: BYTES, 8: EXACT, 9: BYTES, 10: EXACT, 11: SMALL, 12: SMALL, 13: COMPACT, 14: COMPACT}
WITH_RETRIEVER = (9, 10, 12, 14)  # of these formats

TABLES = {
    "collection": """CREATE TABLE collection (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  model TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  settings TEXT NOT NULL,
  calibration TEXT NOT NULL,
  root BLOB NOT NULL,
  created_with TEXT NOT NULL,
  photos INTEGER NOT NULL,
  digest BLOB NOT NULL,
  seal BLOB NOT NULL
) STRICT""",
    "weights": """CREATE TABLE weights (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  data BLOB NOT NULL
) STRICT""",
    "photos": """CREATE TABLE photos (
  id INTEGER PRIMARY KEY,
  name BLOB NOT NULL UNIQUE,
  display TEXT NOT NULL,
  sha256 TEXT NOT NULL,
  latitude REAL,
  longitude REAL,
  heading REAL,
  gps_damaged INTEGER NOT NULL,
  blank INTEGER NOT NULL,
  patch_sets INTEGER NOT NULL,
  seal BLOB NOT NULL,
  descriptor BLOB NOT NULL
) STRICT""",
    "patches": """CREATE TABLE patches (
  id INTEGER PRIMARY KEY,
  photo INTEGER NOT NULL,
  ordinal INTEGER NOT NULL,
  descriptors BLOB NOT NULL,
  UNIQUE (photo, ordinal)
) STRICT""",
}
RETRIEVER_TABLES = {
    "retriever": """CREATE TABLE retriever (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  name TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  source BLOB NOT NULL,
  seal BLOB NOT NULL
) STRICT""",
    "retrieval": """CREATE TABLE retrieval (
  photo INTEGER PRIMARY KEY,
  descriptor BLOB NOT NULL
) STRICT""",
}
_INDEXED = ("photos", "patches")  # SQLite adds an index for each UNIQUE


def seal(*values: bytes | str | int | float | None) -> bytes:
    """Return 16 bytes that change when one of a row's values (or its type) changes."""
    # ascii() distinguishes types and boundaries, and is equal in every version of Python.
    return hashlib.blake2b(ascii(values).encode(), digest_size=SEAL_BYTES).digest()


def format_with(storage: Storage, retriever: bool) -> int:
    """Return the format of an index with this ``storage``, with or without a retriever."""
    (version,) = (
        version for version, stored in FORMATS.items()
        if stored is storage and (version in WITH_RETRIEVER) == retriever
    )  # fmt: skip
    return version


def create_tables(connection: sqlite3.Connection, storage: Storage, *, retriever: bool) -> None:
    """Create the tables of an index with this ``storage`` in the open transaction."""
    version = format_with(storage, retriever)
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={version}")
    for sql in _tables(version).values():
        connection.execute(sql)


def _tables(version: int) -> dict[str, str]:
    """Return the text of each table of a format by its name."""
    return TABLES | (RETRIEVER_TABLES if version in WITH_RETRIEVER else {})


def check_header(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a file of another program or format before any table is read."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION_ID:
        raise NotAnIndex(path, "a database of another program")
    version = format_of(connection)
    if version not in FORMATS:
        remedy = "update placerec to read it" if version > max(FORMATS) else BUILD_AGAIN
        formats = f"{min(FORMATS)} to {max(FORMATS)}"
        raise ModelMismatch(path, f"index format {version}", f"index format {formats}", remedy)


def format_of(connection: sqlite3.Connection) -> int:
    """Return the format that a file states; one of ``FORMATS`` after ``check_header``."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def check_tables(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a file whose tables, indexes, views or triggers are not exactly ours."""
    tables = _tables(format_of(connection)).items()
    ours = {("table", name, name, sql) for name, sql in tables} | {
        ("index", f"sqlite_autoindex_{table}_1", table, None) for table in _INDEXED
    }
    query = "SELECT type, name, tbl_name, sql FROM sqlite_schema LIMIT ?"
    stored = set(connection.execute(query, (len(ours) + 1,)))
    if stored != ours:
        names = sorted(str(name)[:60] for _, name, _, _ in stored ^ ours)
        raise DamagedIndex(path, f"unexpected tables: {', '.join(names)}")


class Collection(NamedTuple):
    """The row about the whole index; ``root`` is relative to the folder of the index file."""

    model: str
    fingerprint: str
    settings: str
    calibration: str
    root: bytes
    created_with: str
    photos: int = 0
    digest: bytes = bytes(SEAL_BYTES)

    @classmethod
    def read(cls, connection: sqlite3.Connection, path: Path) -> Self:
        """Return the row; raise DamagedIndex if it is missing, changed or invalid."""
        query = f"SELECT seal, {', '.join(cls._fields)} FROM collection WHERE id = 1"  # noqa: S608
        stored = connection.execute(query).fetchone()
        if stored is None:
            raise DamagedIndex(path, "the row about the collection is missing")
        mark, *values = stored
        if seal(*values) != mark:
            raise DamagedIndex(path, "the row about the collection has changed")
        collection = cls(*values)
        for name in ("settings", "calibration"):
            if not _is_json_object(getattr(collection, name)):
                raise DamagedIndex(path, f"its {name} are not a JSON object")
        return collection

    def write(self, connection: sqlite3.Connection) -> None:
        """Store the row with its seal."""
        connection.execute(
            "INSERT OR REPLACE INTO collection VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*self, seal(*self)),
        )

    def with_photo(self, mark: bytes, count: int = 1) -> Self:
        """Return the row with the photo that has this seal, or with ``count`` -1 without it."""
        digest = _digest(_number(self.digest) + count * _number(mark))
        return self._replace(photos=self.photos + count, digest=digest)

    def damage(self, photos: Sequence[StoredPhoto]) -> str:
        """Say why these intact photos are not those of the index; an empty text if they are."""
        if not photos:
            return "it has no photo"
        digest = _digest(sum(_number(photo.seal) for photo in photos))
        if (len(photos), digest) == (self.photos, self.digest):
            return ""
        return f"{len(photos)} intact photos instead of {self.photos}, or different photos"

    def weights_key(self) -> bytes:
        """Return the codec key of the fitted model with this fingerprint."""
        return seal("weights", self.model, self.fingerprint)

    def calibration_of(self, path: Path) -> Calibration:
        """Return the calibration of the index at ``path``; raise DamagedIndex for other text."""
        try:
            return Calibration.from_json(self.calibration)
        except ValueError as error:
            raise DamagedIndex(path, str(error)) from error

    def root_of(self, path: Path) -> Path:
        """Return the absolute photo folder of the index at ``path``."""
        return Path(os.path.normpath(path.resolve().parent / os.fsdecode(self.root)))


class RetrieverRow(NamedTuple):
    """The row about the retriever of an index.

    ``source`` is its name in the registry, or the path of its file relative to the folder of the
    index; it is empty for an object that only a program has.
    """

    name: str
    fingerprint: str
    source: bytes

    @classmethod
    def read(cls, connection: sqlite3.Connection, path: Path) -> Self | None:
        """Return the row, or ``None`` for a format without; raise DamagedIndex if it changed."""
        if format_of(connection) not in WITH_RETRIEVER:
            return None
        query = "SELECT seal, name, fingerprint, source FROM retriever WHERE id = 1"
        stored = connection.execute(query).fetchone()
        if stored is None or seal(*stored[1:]) != stored[0]:
            raise DamagedIndex(path, "the row about the retriever is missing or has changed")
        return cls(*stored[1:])

    def write(self, connection: sqlite3.Connection) -> None:
        """Store the row with its seal."""
        connection.execute("INSERT INTO retriever VALUES (1, ?, ?, ?, ?)", (*self, seal(*self)))

    def key(self, photo_seal: bytes) -> bytes:
        """Return the codec key of a photo's descriptor by this retriever."""
        return photo_seal + seal(*self)


class PhotoRow(NamedTuple):
    """The sealed part of a photo's row; ``gps_damaged`` and ``blank`` are 0 or 1."""

    name: bytes
    display: str
    sha256: str
    latitude: float | None
    longitude: float | None
    heading: float | None
    gps_damaged: int
    blank: int
    patch_sets: int

    @property
    def position(self) -> Position | None:
        """Where the photo was taken."""
        if self.latitude is None or self.longitude is None:
            return None
        return Position(self.latitude, self.longitude, self.heading)

    def renamed(self, raw: bytes) -> Self:
        """Return the row with another name."""
        return self._replace(name=raw, display=raw.decode("utf-8", "replace"))


PHOTO_FIELDS = ", ".join(PhotoRow._fields)


class StoredPhoto(NamedTuple):
    """A photo's row in a file. Its values can have any type if it is damaged."""

    number: int
    seal: bytes
    row: PhotoRow

    @property
    def damage(self) -> str:
        """What is wrong with the row; an empty text if it is intact."""
        if seal(*self.row) != self.seal:
            return f"the row of photo {self.row.display!r:.200} has changed"
        if not is_relative(self.row.name):
            return f"photo {self.row.display!r:.200} has an invalid name"
        return ""


def stored_photos(connection: sqlite3.Connection, name: bytes | None = None) -> list[StoredPhoto]:
    """Return the rows of all photos, or of the photo ``name``, unchecked."""
    where, values = ("", ()) if name is None else ("WHERE name = ?", (name,))
    rows = connection.execute(f"SELECT id, seal, {PHOTO_FIELDS} FROM photos {where}", values)  # noqa: S608
    return [StoredPhoto(number, mark, PhotoRow(*row)) for number, mark, *row in rows]


def relative_root(root: Path, path: Path) -> bytes:
    """Return the photo folder relative to the folder of the index; both can be moved together."""
    return os.fsencode(os.path.relpath(root.resolve(), path.parent.resolve()))


def photo_row(
    name: str,
    sha256: str,
    position: Position | None,
    patch_sets: int,
    gps_damaged: bool = False,
    blank: bool = False,
) -> PhotoRow:
    """Return the sealed part of a photo's row; raise UsageError for an invalid value."""
    raw = name_bytes(name)
    if not sha256:
        raise UsageError(f"{name!r}: a photo needs the sha256 of its file")
    degrees: list[float | None] = [None, None, None]
    if position is not None:  # -0.0 becomes 0.0, as in SQLite
        degrees = [value if value is None else float(value) + 0.0 for value in astuple(position)]
    if not all(value is None or math.isfinite(value) for value in degrees):
        raise UsageError(f"{name!r}: {position} is not finite; give degrees, or no position")
    latitude, longitude, heading = degrees
    return PhotoRow(
        b"", "", sha256, latitude, longitude, heading, int(gps_damaged), int(blank), patch_sets
    ).renamed(raw)


def name_bytes(name: str) -> bytes:
    """Return the raw bytes of a photo's name: a plain path relative to the photo folder."""
    try:
        raw = os.fsencode(name)
    except UnicodeEncodeError as error:
        raise UsageError(f"{name!r}: no file can have this name") from error
    if not is_relative(raw):
        raise UsageError(f"{name!r}: give a photo's path relative to the photo folder")
    return raw


def is_relative(raw: bytes) -> bool:
    """Whether a name is a normal relative path; ``..`` is only allowed at its start."""
    parts = raw.split(b"/")
    while len(parts) > 1 and parts[0] == b"..":
        del parts[0]
    return not {b"", b".", b".."}.intersection(parts) and b"\0" not in raw


def _number(mark: bytes) -> int:
    return int.from_bytes(mark, "little")


def _digest(total: int) -> bytes:
    return (total % DIGEST_MODULUS).to_bytes(SEAL_BYTES, "little")


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
