"""Arrays and bytes to blobs and back; damage is an error and never a wrong number.

SQLite has no checksum of its pages: of 200 single bit flips in a file of blobs its own check missed
199, and 100 of them had changed a blob (docs/PROMISES.md, P2). So each blob has a CRC32 over its
*key*, its header and its data. The key is not stored. It identifies the row of the blob, so an
intact blob in the wrong row is damage too.

Descriptors are rows of unit length or all zero, stored in one of two ways:

* ``INT8``: codes with one float32 scale per blob, ``scale = max |x| / 127``. Decoding normalises
  each row to unit length, so the scale cancels; it only makes the blob readable without the index.
* ``FLOAT32``: the numbers themselves, ``scale = 1``, restored bit for bit. Rounding to codes
  changes which patches are mutual neighbours, and so the scores.

The format of an index states which one it has (schema.py); a blob of the other kind is damage.

A blob is a header of 36 bytes, little-endian, then ``rows * columns`` numbers, row-major::

    magic "plr" and version 1 | kind | dtype | stride | rows | columns | scale
    | patch height, width | grid rows, columns | CRC32
"""

from __future__ import annotations

import math
import struct
import zlib
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from placerec.errors import DamagedIndex, UsageError
from placerec.records import Array, Grid, PatchSet

MAGIC = b"plr\x01"
HEADER = struct.Struct("<4sBBHIIfHHIII")
CRC_BYTES = 4
LARGEST_CODE = 127
LONGEST_DATA = 2**30 - 1  # bytes; SQLite's own limit for a value is 10**9
UNIT_TOLERANCE = 1e-2  # how far from 1 a descriptor's length may be (float16 inputs pass)


class Kind(IntEnum):
    """The content of a blob."""

    VECTOR = 1
    PATCHES = 2
    BYTES = 3


class Dtype(IntEnum):
    """The type of the numbers in a blob."""

    INT8 = 1
    UINT8 = 2
    FLOAT32 = 3

    @property
    def stored(self) -> np.dtype[Any]:
        """The NumPy type of the numbers in the file."""
        return np.dtype({Dtype.INT8: "i1", Dtype.UINT8: "u1", Dtype.FLOAT32: "<f4"}[self])


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


def encode_vector(vector: Array, key: bytes, dtype: Dtype = Dtype.INT8) -> bytes:
    """Encode a global descriptor: (G,) float, unit length or all zero."""
    vector = np.asarray(vector)
    if vector.ndim != 1:
        raise UsageError(f"a global descriptor must be (G,), not {vector.shape}; pass one photo")
    numbers, scale = _stored(vector[np.newaxis], dtype, "global descriptor")
    return _seal_blob(Header(Kind.VECTOR, dtype, 0, 1, len(vector), scale), numbers, key)


def decode_vector(blob: object, key: bytes, path: Path, dtype: Dtype = Dtype.INT8) -> Array:
    """Decode a global descriptor: (G,) float32, unit length or all zero."""
    return unit_rows(stored_vector(blob, key, path, dtype)[np.newaxis]).reshape(-1)


def stored_vector(blob: object, key: bytes, path: Path, dtype: Dtype = Dtype.INT8) -> Array:
    """Return a checked global descriptor as stored: (G,) int8 or float32, a view into ``blob``."""
    header, data = _open_blob(blob, key, Kind.VECTOR, dtype, path)
    if header.rows != 1:
        raise DamagedIndex(path, f"a global descriptor of {header.rows} rows")
    return np.frombuffer(data, dtype.stored)


def encode_patches(patches: PatchSet, key: bytes, dtype: Dtype = Dtype.INT8) -> bytes:
    """Encode the patch descriptors of one size; an empty grid is valid."""
    numbers, scale = _stored(np.asarray(patches.descriptors), dtype, "patch descriptors")
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
    return _seal_blob(header, numbers, key)


def decode_patches(blob: object, key: bytes, path: Path, dtype: Dtype = Dtype.INT8) -> PatchSet:
    """Decode the patch descriptors of one size: (n, D) float32, unit length or all zero."""
    header, data = _open_blob(blob, key, Kind.PATCHES, dtype, path)
    if header.grid_rows * header.grid_columns != header.rows:
        raise DamagedIndex(path, "a patch set that does not fill its grid")
    if not (header.stride and header.size_height and header.size_width):
        raise DamagedIndex(path, "a patch set with size or stride 0")
    numbers = np.frombuffer(data, dtype.stored).reshape(header.rows, header.columns)
    size = (header.size_height, header.size_width)
    grid = Grid(size, header.grid_rows, header.grid_columns, header.stride)
    return PatchSet(grid, unit_rows(numbers))


def encode_bytes(content: bytes, key: bytes) -> bytes:
    """Encode bytes of any content (the fitted model)."""
    data = np.frombuffer(content, np.uint8)[np.newaxis]
    if not 0 < data.size <= LONGEST_DATA:
        raise UsageError(f"the fitted model has {data.size} bytes; 1 to {LONGEST_DATA} fit")
    return _seal_blob(Header(Kind.BYTES, Dtype.UINT8, 0, 1, data.size, 0.0), data, key)


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
    data = np.frombuffer(blob, np.uint8, offset=HEADER.size)
    return _seal_blob(header, data, new)


def unit_rows(stored: Array) -> Array:
    """Return stored rows (n, D) as float32 of unit length or zero; float32 rows stay equal."""
    if stored.dtype.kind == "f":
        return stored.astype(np.float32, copy=False)
    rows = stored.astype(np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    lengths[lengths == 0] = 1
    rows *= (1 / lengths)[:, np.newaxis]
    return rows


def _stored(rows: Array, dtype: Dtype, what: str) -> tuple[Array, float]:
    """Return rows (n, D) of unit length or zero as they are stored, and their scale."""
    if rows.ndim != 2 or rows.shape[1] == 0 or rows.dtype.kind != "f":
        raise UsageError(f"{what} must be float rows, not {rows.dtype} of shape {rows.shape}")
    if rows.size * dtype.stored.itemsize > LONGEST_DATA:
        raise UsageError(f"{what} of shape {rows.shape} are too large for one blob")
    exact = rows.astype(np.float64)
    lengths = np.sqrt(np.einsum("ij,ij->i", exact, exact))
    wrong = np.flatnonzero(~((lengths == 0) | (np.abs(lengths - 1) <= UNIT_TOLERANCE)))
    if len(wrong):
        row = wrong[0]
        raise UsageError(f"{what}: row {row} has length {lengths[row]:g}; normalise it to 1 or 0")
    if dtype is Dtype.FLOAT32:
        return rows.astype(dtype.stored, copy=False), 1.0
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
    numbers = header.rows * header.columns
    if header.columns == 0 or numbers * dtype.stored.itemsize != len(data):
        shape = (header.rows, header.columns)
        raise DamagedIndex(path, f"a stored array of shape {shape} with {len(data)} bytes")
    if not math.isfinite(header.scale) or header.scale < 0:
        raise DamagedIndex(path, f"a stored array with scale {header.scale}")
    return header, data
