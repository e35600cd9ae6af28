"""Check a whole index and list everything that is wrong.

SQLite's ``integrity_check`` checks its own structure, not the values. So each row is compared with
its seal, and each blob is decoded.
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

MOST_FINDINGS = 100  # a file of noise would give one finding per row

_Check = Callable[[sqlite3.Connection, Path], Iterator[str]]


def verify(path: Path | str) -> list[str]:
    """Return what is wrong with an index as a list of texts; empty if it is sound.

    Raises NotFound or NotAnIndex if there is no index, and Busy if another process writes to it.
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
    """Return what is wrong with the index of an open connection."""
    problems: list[str] = []
    for check in (_structure, _tables, _collection, _photos, _patches):
        problems += _guarded(check, connection, path)
    return problems[:MOST_FINDINGS]


def _guarded(check: _Check, connection: sqlite3.Connection, path: Path) -> list[str]:
    """Run one check to its end; an error that stops it is a finding too."""
    problems: list[str] = []
    try:
        with translated(path):
            for finding in check(connection, path):
                problems.append(finding)
                if len(problems) == MOST_FINDINGS:
                    break
    except Busy:
        raise
    except Damaged as error:
        problems.append(str(error))
    return problems


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
            yield f"{display}: has an invalid name"
        digest = add_seal(digest, mark)
        try:
            widths.add(len(codec.stored_vector(blob, mark, path, dtype)))
        except Damaged as error:
            yield f"{display}: global descriptor: {error}"
    if count != collection.photos:
        yield f"{count} photos instead of {collection.photos}"
    if digest != collection.digest:
        yield "the photos are not the ones that were stored"
    if len(widths) > 1:
        yield f"global descriptors of different lengths: {sorted(widths)}"


def _patches(connection: sqlite3.Connection, path: Path) -> Iterator[str]:
    photos = {  # only rows with a right seal: in others a number may be a text
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
            yield f"a patch set without a photo ({photo!r:.50}, {ordinal!r:.50})"
            continue
        display, mark, _ = photos[photo]
        seen[photo].add(ordinal)
        try:
            codec.decode_patches(blob, patch_key(mark, ordinal), path, dtype)
        except Damaged as error:
            yield f"photo {display!r:.200}, patch set {ordinal}: {error}"
    for photo, (display, _, sets) in photos.items():
        if len(seen[photo]) != sets:
            yield f"photo {display!r:.200}: {len(seen[photo])} of {sets} patch sets exist"
