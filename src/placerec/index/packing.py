"""Rows of numbers as few bytes: how descriptors are stored, and what a stored row means.

Rows have unit length or are all zero. A preset of storage (presets.py) names one of these types for
each kind of descriptor:

* ``FLOAT32``: the numbers themselves, restored bit for bit. Rounding to codes changes which patches
  are mutual neighbours, and so the scores of the published forms.
* ``INT8``: codes of one byte; one float32 scale per array, ``max |x| / 127``. A restored row has
  unit length, so the scale cancels; it only makes an array readable without the index.
* ``TWO_BITS``: the sign of each number, and whether it is large: the quantiser of four levels with
  the least error for a normal distribution (Max, Quantizing for Minimum Distortion, 1960).
* ``ONE_BIT``: the sign of each number.
* ``HALF_SIGNS``: the signs of the first 32 of every 64 numbers. In a global descriptor of the
  default method 64 numbers are the residual of one cluster after a PCA, so the first half says
  most.

A row of bits points in another direction than the numbers did, so its cosines with a query are too
small, all by about the same factor. The scale is this factor: the mean cosine of the rows with the
numbers. A restored row is divided by it, so that its product with a query is right on average; it
is longer than 1 (Gao and Long, RaBitQ, SIGMOD 2024).
"""

from __future__ import annotations

from enum import IntEnum
from functools import cache
from typing import Any

import numpy as np

from placerec.errors import UsageError
from placerec.records import Array

LARGEST_CODE = 127
LONGEST_DATA = 2**30 - 1  # bytes; SQLite's own limit for a value is 10**9
UNIT_TOLERANCE = 1e-2  # how far from 1 a descriptor's length may be (float16 inputs pass)
MOST_LENGTH = 1.0  # how much longer than 1 a restored row may be
GROUP, KEPT = 64, 32  # of HALF_SIGNS
LEVELS, LARGE = (0.4528, 1.510), 0.9816  # for numbers of mean square 1 (Max, table I)


class Dtype(IntEnum):
    """The type of the numbers in a blob."""

    INT8 = 1
    UINT8 = 2
    FLOAT32 = 3
    ONE_BIT = 4
    TWO_BITS = 5
    HALF_SIGNS = 6

    @property
    def stored(self) -> np.dtype[Any]:
        """The NumPy type of the items in the file: numbers, or bytes of several numbers."""
        return np.dtype({Dtype.INT8: "i1", Dtype.FLOAT32: "<f4"}.get(self, "u1"))

    @property
    def bits(self) -> int:
        """How many bits a number has if they are fewer than 8, else 0."""
        return {Dtype.ONE_BIT: 1, Dtype.TWO_BITS: 2, Dtype.HALF_SIGNS: 1}.get(self, 0)

    def kept(self, columns: int) -> Array:
        """Return which of the numbers of a row are stored: (columns,) bool."""
        most = KEPT if self is Dtype.HALF_SIGNS else GROUP
        return np.arange(columns) % GROUP < most

    def items(self, columns: int) -> int:
        """Return how many stored items a row of ``columns`` numbers has."""
        if not self.bits:
            return columns
        groups, rest = divmod(columns, GROUP)
        if self is Dtype.HALF_SIGNS:
            columns = groups * KEPT + min(rest, KEPT)
        return -(-columns * self.bits // 8)


SIGNS = (Dtype.ONE_BIT, Dtype.HALF_SIGNS)  # types whose rows are signs, all of one length


def pack(rows: Array, dtype: Dtype, what: str, *, restored: bool = False) -> tuple[Array, float]:
    """Return rows (n, D) of unit length or zero as they are stored, (n, items), and their scale.

    Raises ``UsageError`` for other rows; ``what`` names them. ``restored`` rows come from fewer
    bits, so they may be longer. Bits do not say which rows are zero.
    """
    if rows.ndim != 2 or rows.shape[1] == 0 or rows.dtype.kind != "f":
        raise UsageError(f"{what} must be float rows, not {rows.dtype} of shape {rows.shape}")
    if rows.size * dtype.stored.itemsize > LONGEST_DATA:
        raise UsageError(f"{what} of shape {rows.shape} are too large for one blob")
    exact = rows.astype(np.float64)
    lengths = np.sqrt(np.einsum("ij,ij->i", exact, exact))
    too_long = MOST_LENGTH if restored else UNIT_TOLERANCE
    right = (lengths - 1 <= too_long) & (lengths - 1 >= -UNIT_TOLERANCE)
    wrong = np.flatnonzero(~((lengths == 0) | right))
    if len(wrong):
        row = wrong[0]
        raise UsageError(f"{what}: row {row} has length {lengths[row]:g}; normalise it to 1 or 0")
    if dtype is Dtype.FLOAT32:
        return rows.astype(dtype.stored, copy=False), 1.0
    if dtype.bits:
        return _as_bits(exact, dtype)
    largest = float(np.abs(exact).max(initial=0.0))
    if largest == 0:
        return np.zeros(rows.shape, np.int8), 0.0
    return np.rint(exact * (LARGEST_CODE / largest)).astype(np.int8), largest / LARGEST_CODE


def unpack(stored: Array, columns: int, dtype: Dtype, scales: Array | float = 1.0) -> Array:
    """Return stored rows (n, items) as float32 (n, columns).

    Rows of bits have the length 1 / scale, or 0 where the scale is 0; ``scales`` is one for all
    rows, or (n,). Other rows have unit length or are zero; float32 rows stay equal.
    """
    if dtype is Dtype.FLOAT32:
        return stored.astype(np.float32, copy=False)
    if dtype.bits:
        kept, per_byte = dtype.kept(columns), 8 // dtype.bits
        meant = _meanings(dtype).take(stored, axis=0)  # as [stored] does, in a tenth of the time
        meant = meant.reshape(len(stored), stored.shape[1] * per_byte)
        if kept.all():
            rows = meant[:, :columns]
        else:
            rows = np.zeros((len(meant), columns), np.float32)
            rows[:, kept] = meant[:, : np.count_nonzero(kept)]
    else:
        rows, scales = stored.astype(np.float32), 1.0
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows)) * scales
    factors = np.divide(1.0, lengths, where=lengths > 0, out=np.zeros(len(rows)))
    unpacked: Array = rows * factors.astype(np.float32)[:, np.newaxis]
    return unpacked


def byte_products(query: Array, dtype: Dtype) -> Array:
    """Return what each byte of a row adds to its product with ``query`` (D,): (items, 256) float32.

    ``dtype`` is one of ``SIGNS``. The product of a row with the query is the sum of these numbers,
    one per byte of the row, divided by its scale (Jégou, Douze and Schmid,
    Product Quantization for Nearest Neighbor Search, PAMI 2011, section III.A).
    """
    kept = dtype.kept(len(query))
    numbers = np.zeros(8 * dtype.items(len(query)), np.float32)
    numbers[: np.count_nonzero(kept)] = query[kept]
    length = np.float32(np.count_nonzero(kept) ** 0.5)
    return numbers.reshape(-1, 8) @ _meanings(dtype).T / length


def signs(rows: Array, dtype: Dtype) -> Array:
    """Return the signs of rows (n, D) as ``ONE_BIT`` or ``HALF_SIGNS`` packs them: uint8."""
    return np.packbits(rows[:, dtype.kept(rows.shape[1])] >= 0, axis=1)


def _as_bits(rows: Array, dtype: Dtype) -> tuple[Array, float]:
    """Return rows (n, D) as bits (n, items), and their mean cosine with the numbers."""
    if dtype is Dtype.TWO_BITS:
        lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
        large = np.abs(rows) * np.sqrt(rows.shape[1]) > LARGE * lengths[:, np.newaxis]
        codes = np.packbits(np.stack((rows >= 0, large), axis=2).reshape(len(rows), -1), axis=1)
    else:
        codes = signs(rows, dtype)
    filled = rows.any(axis=1)
    if not filled.any():
        return codes, 0.0
    products = np.einsum("ij,ij->i", unpack(codes, rows.shape[1], dtype), rows)
    squares = np.einsum("ij,ij->i", rows, rows)
    return codes, float((products[filled] / squares[filled]).mean())


@cache
def _meanings(dtype: Dtype) -> Array:
    """Return the numbers that each byte stands for: (256, numbers per byte) float32."""
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, np.newaxis], axis=1)
    meanings: Array = bits[:, :: dtype.bits] * np.float32(2) - 1
    if dtype is Dtype.TWO_BITS:
        meanings *= np.array(LEVELS, np.float32)[bits[:, 1::2]]
    return meanings
