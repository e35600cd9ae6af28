"""Arrays and bytes to blobs and back, so that damage is an error and never another number.

SQLite keeps no checksum of its pages: of 200 single bit flips in a file of blobs its own check
passed 199, and 100 of them had changed a blob (docs/PROMISES.md, P2). So each blob carries a CRC32
over its *key*, its header and its data. The key is not stored; it names the row that the blob
belongs to, so a sound blob in the wrong row is damage too.

Descriptors are rows of unit length or all zero. They are stored as int8 codes with one float32
scale a blob, ``scale = max |x| / 127``; decoding brings each row back to unit length, in which the
scale cancels, so it is kept only to make the blob readable on its own.

A blob is 36 bytes of header, little-endian, then ``rows * columns`` bytes, row-major::

    magic "plr" and version 1 | kind | dtype | stride | rows | columns | scale
    | patch height, width | grid rows, columns | CRC32
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
from placerec.records import Array, PatchSet

MAGIC = b"plr\x01"
HEADER = struct.Struct("<4sBBHIIfHHIII")
CRC_BYTES = 4
INT8_SCALED, UINT8 = 1, 2  # dtype codes
LARGEST_CODE = 127
LONGEST_DATA = 2**30 - 1  # bytes; SQLite's own limit for a value is 10**9
UNIT_TOLERANCE = 1e-2  # how far from 1 a descriptor's length may be (float16 inputs pass)


class Kind(IntEnum):
    """What a blob holds."""

    VECTOR = 1
    PATCHES = 2
    BYTES = 3


class Header(NamedTuple):
    """The fields of a blob's header after the magic, in the order of the file."""

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


def encode_vector(vector: Array, key: bytes) -> bytes:
    """Store a global descriptor: (G,) float, unit length or all zero."""
    vector = np.asarray(vector)
    if vector.ndim != 1:
        raise UsageError(f"a global descriptor must be (G,), not {vector.shape}; pass one photo")
    codes, scale = _quantise(vector[np.newaxis], "global descriptor")
    return _seal_blob(Header(Kind.VECTOR, INT8_SCALED, 0, 1, len(vector), scale), codes, key)


def decode_vector(blob: object, key: bytes, path: Path) -> Array:
    """Return the global descriptor of ``encode_vector``: (G,) float32, unit length or zero."""
    rows = unit_rows(vector_codes(blob, key, path)[np.newaxis])
    return rows.reshape(-1)


def vector_codes(blob: object, key: bytes, path: Path) -> Array:
    """Return the checked codes of a global descriptor: (G,) int8, a view into ``blob``."""
    header, data = _open_blob(blob, key, Kind.VECTOR, path)
    if header.rows != 1:
        raise DamagedIndex(path, f"a global descriptor of {header.rows} rows")
    return np.frombuffer(data, np.int8)


def encode_patches(patches: PatchSet, key: bytes) -> bytes:
    """Store the patch descriptors of one size; a grid without patches is legal."""
    codes, scale = _quantise(np.asarray(patches.descriptors), "patch descriptors")
    grid = (int(patches.rows), int(patches.columns))
    if min(grid) < 0 or grid[0] * grid[1] != len(codes):
        raise UsageError(f"{len(codes)} patch descriptors do not fill a grid of {grid}")
    (height, width), stride = map(int, patches.size), int(patches.stride)
    if not all(1 <= number < 2**16 for number in (height, width, stride)):
        raise UsageError(f"patch size {patches.size} and stride {stride} must be 1 to 65535 cells")
    rows, columns = codes.shape
    header = Header(Kind.PATCHES, INT8_SCALED, stride, rows, columns, scale, height, width, *grid)
    return _seal_blob(header, codes, key)


def decode_patches(blob: object, key: bytes, path: Path) -> PatchSet:
    """Return the set of ``encode_patches``, rows (n, D) float32 of unit length or zero."""
    header, data = _open_blob(blob, key, Kind.PATCHES, path)
    if header.grid_rows * header.grid_columns != header.rows:
        raise DamagedIndex(path, "a patch set that does not fill its grid")
    if not (header.stride and header.size_height and header.size_width):
        raise DamagedIndex(path, "a patch set with size or stride 0")
    codes = np.frombuffer(data, np.int8).reshape(header.rows, header.columns)
    size = (header.size_height, header.size_width)
    return PatchSet(size, header.grid_rows, header.grid_columns, header.stride, unit_rows(codes))


def encode_bytes(content: bytes, key: bytes) -> bytes:
    """Store bytes that this room does not look into (the fitted model)."""
    data = np.frombuffer(content, np.uint8)[np.newaxis]
    if not 0 < data.size <= LONGEST_DATA:
        raise UsageError(f"the fitted model has {data.size} bytes; 1 to {LONGEST_DATA} fit")
    return _seal_blob(Header(Kind.BYTES, UINT8, 0, 1, data.size, 0.0), data, key)


def decode_bytes(blob: object, key: bytes, path: Path) -> bytes:
    """Return the content of ``encode_bytes``."""
    return bytes(_open_blob(blob, key, Kind.BYTES, path)[1])


def unit_rows(codes: Array) -> Array:
    """Return int8 rows (n, D) as float32 rows of unit length; zero rows stay zero."""
    rows = codes.astype(np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    lengths[lengths == 0] = 1
    rows *= (1 / lengths)[:, np.newaxis]
    return rows


def _quantise(rows: Array, what: str) -> tuple[Array, float]:
    """Return int8 codes (n, D) and their scale for unit or zero rows (n, D)."""
    if rows.ndim != 2 or rows.shape[1] == 0 or rows.dtype.kind != "f":
        raise UsageError(f"{what} must be float rows, not {rows.dtype} of shape {rows.shape}")
    if rows.size > LONGEST_DATA:
        raise UsageError(f"{what} of shape {rows.shape} are too large for one blob")
    exact = rows.astype(np.float64)
    lengths = np.sqrt(np.einsum("ij,ij->i", exact, exact))
    wrong = np.flatnonzero(~((lengths == 0) | (np.abs(lengths - 1) <= UNIT_TOLERANCE)))
    if len(wrong):
        row = wrong[0]
        raise UsageError(f"{what}: row {row} has length {lengths[row]:g}; normalise it to 1 or 0")
    largest = float(np.abs(exact).max(initial=0.0))
    if largest == 0:
        return np.zeros(rows.shape, np.int8), 0.0
    return np.rint(exact * (LARGEST_CODE / largest)).astype(np.int8), largest / LARGEST_CODE


def _seal_blob(header: Header, data: Array, key: bytes) -> bytes:
    """Join header and data, with the CRC over key, header and data in the header's last field."""
    body = data.tobytes()
    start = HEADER.pack(MAGIC, *header)[:-CRC_BYTES]
    crc = zlib.crc32(body, zlib.crc32(start, zlib.crc32(key)))
    return start + crc.to_bytes(CRC_BYTES, "little") + body


def _open_blob(blob: object, key: bytes, kind: Kind, path: Path) -> tuple[Header, memoryview]:
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
    dtype = UINT8 if kind is Kind.BYTES else INT8_SCALED
    if header.kind != kind or header.dtype != dtype:
        raise DamagedIndex(path, f"kind {header.kind}/{header.dtype} where {kind.name} belongs")
    if header.columns == 0 or header.rows * header.columns != len(data):
        shape = (header.rows, header.columns)
        raise DamagedIndex(path, f"a stored array of shape {shape} with {len(data)} bytes")
    if not math.isfinite(header.scale) or header.scale < 0:
        raise DamagedIndex(path, f"a stored array with scale {header.scale}")
    return header, data
