"""The tables of an index, and the check that a file has these and nothing else.

STRICT, because without it NumPy scalars are stored as blobs and NaN as NULL. A view, a trigger or
an extra table can make SQLite run somebody else's expressions, so the stored schema is compared
with ours, text by text.

The format of an index (SQLite's ``user_version``) says how its descriptors are stored: 1 as int8,
2 as float32. Both are read and written; 1 was there first and stays as it was, so that a version
that knows no other still reads what it can.

``seal`` is how rows notice damage: 16 bytes of BLAKE2b over a row's other values. The blobs of a
photo are keyed by its seal (codec.py), and the sum of all seals modulo 2**128 is the collection's
``digest``: independent of order, and updated in constant time with each photo.
"""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path

from placerec.errors import DamagedIndex, ModelMismatch, NotAnIndex
from placerec.index.codec import Dtype

APPLICATION_ID = 0x504C5243  # "PLRC", at byte 68 of the file
FORMATS = {1: Dtype.INT8, 2: Dtype.FLOAT32}  # user_version, and the dtype of descriptors
PAGE_BYTES = 4096
SEAL_BYTES = 16

TABLES = {
    "collection": """CREATE TABLE collection (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  model TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  settings TEXT NOT NULL,
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
_INDEXED = ("photos", "patches")  # SQLite makes an index of its own for each UNIQUE
_SCHEMA = {("table", name, name, sql) for name, sql in TABLES.items()} | {
    ("index", f"sqlite_autoindex_{table}_1", table, None) for table in _INDEXED
}


def seal(*values: bytes | str | int | float | None) -> bytes:
    """Return 16 bytes that change when one of a row's values (or its type) changes."""
    # ascii() keeps types and borders apart, and is the same in every version of Python.
    return hashlib.blake2b(ascii(values).encode(), digest_size=SEAL_BYTES).digest()


def patch_key(photo_seal: bytes, ordinal: int) -> bytes:
    """Return the codec key of a photo's patch set number ``ordinal``."""
    return photo_seal + ordinal.to_bytes(4, "little")


def create_tables(connection: sqlite3.Connection, dtype: Dtype) -> None:
    """Make an empty index of descriptors of ``dtype`` inside the open transaction."""
    (version,) = (version for version, stored in FORMATS.items() if stored is dtype)
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={version}")
    for sql in TABLES.values():
        connection.execute(sql)


def check_header(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse another program's file and another format's index, before any table is read."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION_ID:
        raise NotAnIndex(path, "a database of another program")
    version = format_of(connection)
    if version not in FORMATS:
        remedy = (
            "update placerec to read it"
            if version > max(FORMATS)
            else "build it again from the photos: placerec index build"
        )
        known = " or ".join(map(str, FORMATS))
        raise ModelMismatch(path, f"index format {version}", f"index format {known}", remedy)


def format_of(connection: sqlite3.Connection) -> int:
    """Return the format that a file claims; one of ``FORMATS`` where ``check_header`` passed."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def check_tables(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a file whose tables, indexes, views or triggers are not exactly ours."""
    query = "SELECT type, name, tbl_name, sql FROM sqlite_schema LIMIT ?"
    found = set(connection.execute(query, (len(_SCHEMA) + 1,)))
    if found != _SCHEMA:
        odd = sorted(str(name)[:60] for _, name, _, _ in found ^ _SCHEMA)
        raise DamagedIndex(path, f"its tables are not those of an index: {', '.join(odd)}")
