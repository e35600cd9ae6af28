"""Checking a whole index: everything that is wrong, as a list of sentences.

SQLite's ``integrity_check`` knows about its own structure and nothing about the values, so each
row is compared with its seal and each blob is decoded.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from placerec.errors import Busy, Damaged
from placerec.index import codec
from placerec.index.connection import open_checked, translated
from placerec.index.rows import DIGEST_BYTES, PHOTO_FIELDS, Collection, add_seal, is_relative
from placerec.index.schema import (
    FORMATS,
    check_header,
    check_tables,
    format_of,
    patch_key,
    seal,
)

MOST_FINDINGS = 100  # a file of noise would give one for each row

_Check = Callable[[sqlite3.Connection, Path], Iterator[str]]


def verify(path: Path | str) -> list[str]:
    """Return what is wrong with an index, nothing when it is sound.

    Raises NotFound or NotAnIndex where there is no index to check, Busy where one is written to.
    """
    path = Path(path)
    try:
        with closing(open_checked(path, "ro")) as connection:
            return findings(connection, path)
    except Busy:
        raise
    except Damaged as error:
        return [str(error)]


def findings(connection: sqlite3.Connection, path: Path) -> list[str]:
    """Return what is wrong with the index behind an open connection."""
    found: list[str] = []
    for check in (_structure, _tables, _collection, _photos, _patches):
        found += _guarded(check, connection, path)
    return found[:MOST_FINDINGS]


def _guarded(check: _Check, connection: sqlite3.Connection, path: Path) -> list[str]:
    """Run one check to its end, or until it cannot go on, which is a finding too."""
    found: list[str] = []
    try:
        with translated(path):
            for finding in check(connection, path):
                found.append(finding)
                if len(found) == MOST_FINDINGS:
                    break
    except Busy:
        raise
    except Damaged as error:
        found.append(str(error))
    return found


def _structure(connection: sqlite3.Connection, _: Path) -> Iterator[str]:
    for (line,) in connection.execute(f"PRAGMA integrity_check({MOST_FINDINGS})"):
        if line != "ok":
            yield f"SQLite: {line}"


def _tables(connection: sqlite3.Connection, path: Path) -> Iterator[str]:
    check_header(connection, path)
    check_tables(connection, path)
    yield from ()


def _collection(connection: sqlite3.Connection, path: Path) -> Iterator[str]:
    collection = Collection.read(connection, path)
    if not (collection.model and collection.fingerprint):
        yield "the model's name or fingerprint is missing"
    try:
        json.loads(collection.settings)
    except ValueError:
        yield "the settings are not JSON"
    rows = connection.execute("SELECT id, data FROM weights").fetchall()
    if [number for number, _ in rows] == [1]:
        codec.decode_bytes(rows[0][1], collection.weights_key(), path)
    else:
        yield "the fitted model is missing"


def _photos(connection: sqlite3.Connection, path: Path) -> Iterator[str]:
    collection = Collection.read(connection, path)
    count, digest, widths = 0, bytes(DIGEST_BYTES), set()
    dtype = FORMATS[format_of(connection)]
    query = f"SELECT {PHOTO_FIELDS}, seal, descriptor FROM photos"  # noqa: S608
    for *row, mark, blob in connection.execute(query):
        count += 1
        display = f"photo {row[1]!r:.200}"
        if seal(*row) != mark:
            yield f"{display}: its row has changed"
            continue
        if not is_relative(row[0]):
            yield f"{display}: has an impossible name"
        digest = add_seal(digest, mark)
        try:
            widths.add(len(codec.stored_vector(blob, mark, path, dtype)))
        except Damaged as error:
            yield f"{display}: global descriptor: {error}"
    if count != collection.photos:
        yield f"{count} photos where {collection.photos} belong"
    if digest != collection.digest:
        yield "the photos are not the ones that were stored"
    if len(widths) > 1:
        yield f"global descriptors of different lengths: {sorted(widths)}"


def _patches(connection: sqlite3.Connection, path: Path) -> Iterator[str]:
    photos = {  # only rows as they were sealed: in any other, a number may be a text
        photo: (row[1], mark, row[6])
        for photo, mark, *row in connection.execute(f"SELECT id, seal, {PHOTO_FIELDS} FROM photos")  # noqa: S608
        if seal(*row) == mark
    }
    seen: dict[object, set[object]] = {photo: set() for photo in photos}
    dtype = FORMATS[format_of(connection)]
    for photo, ordinal, blob in connection.execute(
        "SELECT photo, ordinal, descriptors FROM patches"
    ):
        if photo not in photos or ordinal not in range(photos[photo][2]):
            yield f"a patch set of no photo ({photo!r:.50}, {ordinal!r:.50})"
            continue
        display, mark, _ = photos[photo]
        seen[photo].add(ordinal)
        try:
            codec.decode_patches(blob, patch_key(mark, ordinal), path, dtype)
        except Damaged as error:
            yield f"photo {display!r:.200}, patch set {ordinal}: {error}"
    for photo, (display, _, sets) in photos.items():
        if len(seen[photo]) != sets:
            yield f"photo {display!r:.200}: {len(seen[photo])} of {sets} patch sets are there"
