"""The tables of an index, and the check that a file has exactly these tables.

The tables are STRICT; without it SQLite stores NumPy scalars as blobs and NaN as NULL. A view, a
trigger or an extra table can make SQLite run foreign expressions, so the stored schema is compared
with ours, text by text.

The format of an index (SQLite's ``user_version``) states how its descriptors are stored: 1 as int8,
2 as float32.

A ``seal`` detects damage of a row: 16 bytes of BLAKE2b over the row's other values. The seal of a
photo is the key of its blobs (codec.py). The sum of all seals modulo 2**128 is the ``digest`` of
the collection: it does not depend on the order, and one photo updates it in constant time.
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
_INDEXED = ("photos", "patches")  # SQLite adds an index for each UNIQUE
_SCHEMA = {("table", name, name, sql) for name, sql in TABLES.items()} | {
    ("index", f"sqlite_autoindex_{table}_1", table, None) for table in _INDEXED
}


def seal(*values: bytes | str | int | float | None) -> bytes:
    """Return 16 bytes that change when one of a row's values (or its type) changes."""
    # ascii() distinguishes types and boundaries, and is equal in every version of Python.
    return hashlib.blake2b(ascii(values).encode(), digest_size=SEAL_BYTES).digest()


def patch_key(photo_seal: bytes, ordinal: int) -> bytes:
    """Return the codec key of a photo's patch set number ``ordinal``."""
    return photo_seal + ordinal.to_bytes(4, "little")


def create_tables(connection: sqlite3.Connection, dtype: Dtype) -> None:
    """Create the tables of an index with descriptors of ``dtype`` in the open transaction."""
    (version,) = (version for version, stored in FORMATS.items() if stored is dtype)
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={version}")
    for sql in TABLES.values():
        connection.execute(sql)


def check_header(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a file of another program or format before any table is read."""
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
        formats = " or ".join(map(str, FORMATS))
        raise ModelMismatch(path, f"index format {version}", f"index format {formats}", remedy)


def format_of(connection: sqlite3.Connection) -> int:
    """Return the format that a file states; one of ``FORMATS`` after ``check_header``."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def check_tables(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a file whose tables, indexes, views or triggers are not exactly ours."""
    query = "SELECT type, name, tbl_name, sql FROM sqlite_schema LIMIT ?"
    stored = set(connection.execute(query, (len(_SCHEMA) + 1,)))
    if stored != _SCHEMA:
        names = sorted(str(name)[:60] for _, name, _, _ in stored ^ _SCHEMA)
        raise DamagedIndex(path, f"unexpected tables: {', '.join(names)}")
