"""Read the MATLAB files of a data set: numbers, text, cells and structs of format 5.

Source: MathWorks, "MAT-File Format", level 5. A file is a header of 128 bytes and one element a
variable, as a rule compressed; an element is a tag (type, bytes) and its data, padded to 8 bytes.
Enough for the ``dbStruct`` of NetVLAD's data sets, without a dependency for it. Nothing in such a
file can run. Format 7.3 (HDF5) and format 4 are refused by name.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from placerec.errors import Damaged, NotFound

HEADER = 128
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8",
           13: "u8"}  # fmt: skip
TEXT = {16: "utf-8", 17: "utf-16", 18: "utf-32", 4: "utf-16", 2: "utf-8", 1: "utf-8"}
MATRIX, COMPRESSED = 14, 15
CELL, STRUCT, CHAR = 1, 2, 4
NUMERIC = range(6, 16)
DEEPEST = 20  # nested elements; more is no data set


class _Malformed(Exception):
    """What is wrong with the bytes; ``read_mat`` adds the path."""


def read_mat(path: Path) -> dict[str, Any]:
    """The variables of a .mat file: arrays, text, lists (cells) and dictionaries (structs).

    Arrays keep MATLAB's shape, at least two-dimensional; a struct array is a list.
    """
    if not path.is_file():
        raise NotFound(path, "no such file", "unpack the data set again")
    data = path.read_bytes()
    try:
        return _variables(data)
    except (_Malformed, struct.error, zlib.error, UnicodeDecodeError, ValueError) as error:
        raise Damaged(
            f"{path}: no readable MATLAB file ({error}); take the original one, or save it in "
            f"MATLAB with -v7"
        ) from error


def _variables(data: bytes) -> dict[str, Any]:
    if data[:8] == b"\x89HDF\r\n\x1a\n" or data[:10] == b"MATLAB 7.3":
        raise _Malformed("it is of format 7.3")
    if len(data) <= HEADER or data[126:128] not in (b"IM", b"MI"):
        raise _Malformed("its header is not that of format 5")
    order = "<" if data[126:128] == b"IM" else ">"
    variables = {}
    position = HEADER
    while position < len(data):
        kind, content, position = _element(data, position, order)
        if kind == COMPRESSED:
            kind, content, _ = _element(zlib.decompress(content), 0, order)
        if kind == MATRIX:
            name, value = _matrix(content, order, 0)
            variables[name] = value
    return variables


def _element(data: bytes, position: int, order: str) -> tuple[int, bytes, int]:
    """Type and data of the element at ``position``, and where the next one begins."""
    (first,) = struct.unpack_from(order + "I", data, position)
    if first >> 16:  # the small form: size and type share four bytes, the data are the next four
        size, kind = first >> 16, first & 0xFFFF
        if size > 4:
            raise _Malformed(f"a small element of {size} bytes")
        return kind, data[position + 4 : position + 4 + size], position + 8
    (size,) = struct.unpack_from(order + "I", data, position + 4)
    start = position + 8
    if start + size > len(data):
        raise _Malformed(f"it ends {start + size - len(data)} bytes too early")
    padding = 0 if first == COMPRESSED else -size % 8
    return first, data[start : start + size], start + size + padding


def _matrix(data: bytes, order: str, depth: int) -> tuple[str, Any]:
    """Name and value of a matrix element."""
    if not data:
        return "", np.zeros((0, 0))
    if depth > DEEPEST:
        raise _Malformed("too many elements inside each other")
    _, flags, position = _element(data, 0, order)
    kind = struct.unpack_from(order + "I", flags)[0] & 0xFF
    code, raw, position = _element(data, position, order)
    shape = tuple(int(n) for n in _numbers(code, raw, order))
    _, name, position = _element(data, position, order)
    count = int(np.prod(shape))
    if kind == CELL:
        value, _ = _children(data, position, count, order, depth)
        return name.decode("ascii"), value
    if kind == STRUCT:
        return name.decode("ascii"), _struct(data, position, count, order, depth)
    code, raw, position = _element(data, position, order)
    if kind == CHAR:
        if code not in TEXT:
            raise _Malformed(f"text of type {code}")
        endian = {"<": "-le", ">": "-be"}[order] if TEXT[code] != "utf-8" else ""
        return name.decode("ascii"), raw.decode(TEXT[code] + endian)
    if kind not in NUMERIC:
        raise _Malformed(f"a variable of class {kind}")
    numbers = _numbers(code, raw, order)
    if len(numbers) != count:
        raise _Malformed(f"{len(numbers)} numbers for a shape of {shape}")
    return name.decode("ascii"), numbers.reshape(shape, order="F")


def _struct(data: bytes, position: int, count: int, order: str, depth: int) -> Any:
    code, raw, position = _element(data, position, order)
    width = int(_numbers(code, raw, order)[0])
    _, names, position = _element(data, position, order)
    if width < 1:
        raise _Malformed("field names of no length")
    fields = [
        names[at : at + width].split(b"\0")[0].decode("ascii") for at in range(0, len(names), width)
    ]
    entries = []
    for _ in range(count):
        values, position = _children(data, position, len(fields), order, depth)
        entries.append(dict(zip(fields, values, strict=True)))
    return entries[0] if count == 1 else entries


def _children(
    data: bytes, position: int, count: int, order: str, depth: int
) -> tuple[list[Any], int]:
    values = []
    for _ in range(count):
        kind, content, position = _element(data, position, order)
        if kind != MATRIX:
            raise _Malformed(f"an element of type {kind} inside a cell or struct")
        values.append(_matrix(content, order, depth + 1)[1])
    return values, position


def _numbers(code: int, raw: bytes, order: str) -> Any:
    if code not in NUMBERS:
        raise _Malformed(f"numbers of type {code}")
    return np.frombuffer(raw, order + NUMBERS[code])
