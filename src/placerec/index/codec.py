"""Arrays and bytes to blobs and back; damage is an error and never a wrong number.

SQLite has no checksum of its pages: of 200 single bit flips in a file of blobs its own check missed
199, and 100 of them had changed a blob (docs/PROMISES.md, P2). So each blob has a CRC32 over its
*key*, its header and its data. The key is not stored. It identifies the row of the blob, so an
intact blob in the wrong row is damage too.

A blob is a header of 36 bytes, little-endian, then the rows as ``packing.py`` stores them, one
after the other. Signs cannot be zero, so patches of a few bits begin with a bit per row that says
whether the row is not zero, and only these rows follow::

    magic "plr" and version 1 | kind | dtype | stride | rows | columns | scale
    | patch height, width | grid rows, columns | CRC32

The format of an index states the type of its numbers (schema.py); a blob of another is damage.
"""

from __future__ import annotations

import math
import struct
import zlib
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

import numpy as np

from placerec.errors import DamagedIndex, UsageError
from placerec.index.packing import LONGEST_DATA, Dtype, pack, unpack
from placerec.records import Array, Grid, PatchSet

MAGIC = b"plr\x01"
HEADER = struct.Struct("<4sBBHIIfHHIII")
CRC_BYTES = 4


class Kind(IntEnum):
    """The content of a blob."""

    VECTOR = 1
    PATCHES = 2
    BYTES = 3


class Header(NamedTuple):
    """The fields of a blob's header after the magic bytes, in the order of the file."""

    kind: int
    dtype: int
    stride: int
    rows: int
    columns: int
    scale: float
    size_height: int = 0
    size_width: int = 0
    grid_rows: int = 0
    grid_columns: int = 0
    crc: int = 0


def patch_key(photo_seal: bytes, ordinal: int) -> bytes:
    """Return the key of a photo's patch set number ``ordinal``."""
    return photo_seal + ordinal.to_bytes(4, "little")


def encode_vector(
    vector: Array, key: bytes, dtype: Dtype = Dtype.INT8, *, restored: bool = False
) -> bytes:
    """Encode a global descriptor: (G,) float, unit length or zero; ``restored`` as in ``pack``."""
    vector = np.asarray(vector)
    if vector.ndim != 1:
        raise UsageError(f"a global descriptor must be (G,), not {vector.shape}; pass one photo")
    stored, scale = pack(vector[np.newaxis], dtype, "global descriptor", restored=restored)
    return _seal_blob(Header(Kind.VECTOR, dtype, 0, 1, len(vector), scale), stored.tobytes(), key)


def decode_vector(blob: object, key: bytes, path: Path, dtype: Dtype = Dtype.INT8) -> Array:
    """Decode a global descriptor: (G,) float32; its length as in ``unpack``."""
    stored, columns, scale = stored_vector(blob, key, path, dtype)
    return unpack(stored[np.newaxis], columns, dtype, scale).reshape(-1)


def stored_vector(
    blob: object, key: bytes, path: Path, dtype: Dtype = Dtype.INT8
) -> tuple[Array, int, float]:
    """Return a checked global descriptor as stored: (items,), a view into ``blob``.

    Its number of values and its scale follow, as ``unpack`` needs them.
    """
    header, data = _open_blob(blob, key, Kind.VECTOR, dtype, path)
    if header.rows != 1:
        raise DamagedIndex(path, f"a global descriptor of {header.rows} rows")
    return np.frombuffer(data, dtype.stored), header.columns, header.scale


def encode_patches(
    patches: PatchSet, key: bytes, dtype: Dtype = Dtype.INT8, *, restored: bool = False
) -> bytes:
    """Encode the patch descriptors of one size, none for an empty grid; ``restored`` as above."""
    numbers = np.asarray(patches.descriptors)
    stored, scale = pack(numbers, dtype, "patch descriptors", restored=restored)
    grid = (int(patches.grid.rows), int(patches.grid.columns))
    if min(grid) < 0 or grid[0] * grid[1] != len(numbers):
        raise UsageError(f"{len(numbers)} patch descriptors do not fill a grid of {grid}")
    (height, width), stride = map(int, patches.grid.size), int(patches.grid.stride)
    if not all(1 <= number < 2**16 for number in (height, width, stride)):
        raise UsageError(
            f"patch size {patches.grid.size} and stride {stride} must be 1 to 65535 cells"
        )
    rows, columns = numbers.shape
    header = Header(Kind.PATCHES, dtype, stride, rows, columns, scale, height, width, *grid)
    if not dtype.bits:
        return _seal_blob(header, stored.tobytes(), key)
    filled = numbers.any(axis=1)
    return _seal_blob(header, np.packbits(filled).tobytes() + stored[filled].tobytes(), key)


def decode_patches(blob: object, key: bytes, path: Path, dtype: Dtype = Dtype.INT8) -> PatchSet:
    """Decode the patch descriptors of one size: (n, D) float32; their lengths as in ``unpack``."""
    header, data = _open_blob(blob, key, Kind.PATCHES, dtype, path)
    if header.grid_rows * header.grid_columns != header.rows:
        raise DamagedIndex(path, "a patch set that does not fill its grid")
    if not (header.stride and header.size_height and header.size_width):
        raise DamagedIndex(path, "a patch set with size or stride 0")
    size = (header.size_height, header.size_width)
    grid = Grid(size, header.grid_rows, header.grid_columns, header.stride)
    count, first = _stored_rows(header, dtype, data)
    items = dtype.items(header.columns)
    stored = np.frombuffer(data, dtype.stored, offset=first).reshape(count, items)
    rows = unpack(stored, header.columns, dtype, header.scale)
    if count < header.rows:
        marks = np.unpackbits(np.frombuffer(data[:first], np.uint8), count=header.rows)
        some, rows = rows, np.zeros((header.rows, header.columns), np.float32)
        rows[marks.astype(bool)] = some
    return PatchSet(grid, rows)


def encode_bytes(content: bytes, key: bytes) -> bytes:
    """Encode bytes of any content (the fitted model)."""
    if not 0 < len(content) <= LONGEST_DATA:
        raise UsageError(f"the fitted model has {len(content)} bytes; 1 to {LONGEST_DATA} fit")
    return _seal_blob(Header(Kind.BYTES, Dtype.UINT8, 0, 1, len(content), 0.0), content, key)


def decode_bytes(blob: object, key: bytes, path: Path) -> bytes:
    """Decode the bytes of ``encode_bytes``."""
    return bytes(_open_blob(blob, key, Kind.BYTES, Dtype.UINT8, path)[1])


def with_key(blob: object, key: bytes, new: bytes, path: Path) -> bytes:
    """Return a checked blob of any kind under another key; its numbers stay bit for bit."""
    if not isinstance(blob, bytes) or len(blob) < HEADER.size:
        raise DamagedIndex(path, "a stored array is shorter than its header")
    header = Header(*HEADER.unpack_from(blob)[1:])
    if header.kind not in tuple(Kind) or header.dtype not in tuple(Dtype):
        raise DamagedIndex(path, f"a stored array of kind {header.kind}/{header.dtype}")
    _open_blob(blob, key, Kind(header.kind), Dtype(header.dtype), path)
    return _seal_blob(header, blob[HEADER.size :], new)


def _seal_blob(header: Header, data: bytes, key: bytes) -> bytes:
    """Join header and data, with the CRC over key, header and data in the header's last field."""
    start = HEADER.pack(MAGIC, *header)[:-CRC_BYTES]
    crc = zlib.crc32(data, zlib.crc32(start, zlib.crc32(key)))
    return start + crc.to_bytes(CRC_BYTES, "little") + data


def _open_blob(
    blob: object, key: bytes, kind: Kind, dtype: Dtype, path: Path
) -> tuple[Header, memoryview]:
    """Check everything that a header claims before anything is sized by it."""
    if not isinstance(blob, bytes) or len(blob) < HEADER.size:
        raise DamagedIndex(path, "a stored array is shorter than its header")
    magic, *fields = HEADER.unpack_from(blob)
    header = Header(*fields)
    data = memoryview(blob)[HEADER.size :]
    start = memoryview(blob)[: HEADER.size - CRC_BYTES]
    if magic != MAGIC:
        raise DamagedIndex(path, "a stored array without its magic number")
    if zlib.crc32(data, zlib.crc32(start, zlib.crc32(key))) != header.crc:
        raise DamagedIndex(path, "a stored array fails its checksum")
    if header.kind != kind or header.dtype != dtype:
        raise DamagedIndex(path, f"kind {header.kind}/{header.dtype} instead of {kind.name}")
    count, first = _stored_rows(header, dtype, data)
    length = count * dtype.items(header.columns) * dtype.stored.itemsize
    if dtype.bits and 4 * header.rows * header.columns > LONGEST_DATA:
        raise DamagedIndex(path, f"an array of {header.rows} rows of {header.columns} numbers")
    if header.columns == 0 or length != len(data) - first:
        shape = (header.rows, header.columns)
        raise DamagedIndex(path, f"a stored array of shape {shape} with {len(data)} bytes")
    if not math.isfinite(header.scale) or header.scale < 0:
        raise DamagedIndex(path, f"a stored array with scale {header.scale}")
    return header, data


def _stored_rows(header: Header, dtype: Dtype, data: memoryview) -> tuple[int, int]:
    """Return how many rows are stored, and where in the data they begin."""
    if not dtype.bits or header.kind != Kind.PATCHES:
        return header.rows, 0
    marks = data[: -(-header.rows // 8)]
    return int.from_bytes(marks).bit_count(), len(marks)
