"""Check a whole index and list everything that is wrong.

SQLite's ``integrity_check`` checks its own structure, not the values. So each row is compared with
its seal, and each blob is decoded.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

from placerec.errors import Damaged
from placerec.files import path_of
from placerec.index import codec, schema
from placerec.index.connection import open_checked, translated
from placerec.index.packing import Dtype
from placerec.index.presets import Storage

MOST_FINDINGS = 100  # a file of noise would give one finding per row


def verify(path: Path | str) -> list[str]:
    """Return what is wrong with an index as a list of texts; empty if it is sound.

    Raises NotFound or NotAnIndex if there is no index, and Busy if another process writes to it.
    """
    path = path_of(path)
    try:
        with closing(open_checked(path, "ro")) as connection:
            return findings(connection, path)
    except Damaged as error:
        return [str(error)]


def findings(connection: sqlite3.Connection, path: Path) -> list[str]:
    """Return what is wrong with the index of an open connection."""
    result: list[str] = []
    for check in (_structure, _collection, _photos, _descriptors, _retrieval, _patches):
        try:
            with translated(path):
                for finding in islice(check(connection, path), MOST_FINDINGS):
                    result.append(finding)  # keep those before an error
        except Damaged as error:
            result.append(str(error))
    return list(dict.fromkeys(result))[:MOST_FINDINGS]


def _structure(connection: sqlite3.Connection, _: Path) -> Iterator[str]:
    for (line,) in connection.execute(f"PRAGMA integrity_check({MOST_FINDINGS})"):
        if line != "ok":
            yield f"SQLite: {line}"


def _collection(connection: sqlite3.Connection, path: Path) -> Iterator[str]:
    collection = schema.Collection.read(connection, path)
    if not (collection.model and collection.fingerprint):
        yield "the model's name or fingerprint is missing"
    collection.calibration_of(path)
    weights = connection.execute("SELECT id, data FROM weights").fetchall()
    if [number for number, _ in weights] == [1]:
        codec.decode_bytes(weights[0][1], collection.weights_key(), path)
    else:
        yield "the fitted model is missing"


def _photos(connection: sqlite3.Connection, path: Path) -> Iterator[str]:
    photos = schema.stored_photos(connection)
    yield from filter(None, (photo.damage for photo in photos))
    intact = [photo for photo in photos if not photo.damage]
    if damage := schema.Collection.read(connection, path).damage(intact):
        yield damage


def _descriptors(connection: sqlite3.Connection, path: Path) -> Iterator[str]:
    query, dtype = "SELECT id, descriptor FROM photos", _storage(connection).descriptor
    yield from _vectors(connection, path, query, "global descriptor", lambda seal: seal, dtype)


def _retrieval(connection: sqlite3.Connection, path: Path) -> Iterator[str]:
    if retriever := schema.RetrieverRow.read(connection, path):
        query, dtype = "SELECT photo, descriptor FROM retrieval", _storage(connection).retrieval
        what = "descriptor of the retriever"
        yield from _vectors(connection, path, query, what, retriever.key, dtype)
        query = "SELECT COUNT(*) FROM retrieval WHERE photo NOT IN (SELECT id FROM photos)"
        if foreign := connection.execute(query).fetchone()[0]:
            yield f"{foreign} descriptors of the retriever without a photo"


def _vectors(
    connection: sqlite3.Connection, path: Path, query: str, what: str,
    key: Callable[[bytes], bytes], dtype: Dtype,
) -> Iterator[str]:  # fmt: skip
    """Check the vector of each photo; ``query`` gives their numbers and blobs."""
    photos = _intact(connection)
    widths, missing = set(), set(photos)
    for number, blob in connection.execute(query):
        if number not in photos:
            continue
        missing.discard(number)
        seal, row = photos[number].seal, photos[number].row
        try:
            widths.add(codec.stored_vector(blob, key(seal), path, dtype)[1])
        except Damaged as error:
            yield f"photo {row.display!r:.200}: {what}: {error}"
    for number in sorted(missing):
        yield f"photo {photos[number].row.display!r:.200}: its {what} is missing"
    if len(widths) > 1:
        yield f"{what}s of different lengths: {sorted(widths)}"


def _patches(connection: sqlite3.Connection, path: Path) -> Iterator[str]:
    photos, dtype = _intact(connection), _storage(connection).patches
    stored: dict[int, set[int]] = {number: set() for number in photos}
    query = "SELECT photo, ordinal, descriptors FROM patches"
    for number, ordinal, blob in connection.execute(query):
        if number not in photos or ordinal not in range(photos[number].row.patch_sets):
            yield f"a patch set without a photo ({number!r:.50}, {ordinal!r:.50})"
            continue
        stored[number].add(ordinal)
        try:
            codec.decode_patches(blob, codec.patch_key(photos[number].seal, ordinal), path, dtype)
        except Damaged as error:
            yield f"photo {photos[number].row.display!r:.200}, patch set {ordinal}: {error}"
    for number, (_, _, row) in photos.items():
        count = len(stored[number])
        if count != row.patch_sets:
            yield f"photo {row.display!r:.200}: {count} of {row.patch_sets} patch sets exist"


def _storage(connection: sqlite3.Connection) -> Storage:
    return schema.FORMATS[schema.format_of(connection)]


def _intact(connection: sqlite3.Connection) -> dict[int, schema.StoredPhoto]:
    return {photo.number: photo for photo in schema.stored_photos(connection) if not photo.damage}
