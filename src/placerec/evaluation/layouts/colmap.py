"""COLMAP models: the poses of their images, from ``images.bin`` or ``images.txt``.

Source: COLMAP documentation, "Output format". The model is in ``sparse/`` or ``sparse/0/``; its
image names begin with ``database/`` and ``queries/``. A model has no unit: scale it to metres.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from placerec.errors import BadTable, Damaged, NotFound
from placerec.evaluation.dataset import Dataset
from placerec.evaluation.layouts.overrides import Overrides
from placerec.evaluation.layouts.photo_lists import by_name
from placerec.evaluation.layouts.poses import from_translation, model_dataset
from placerec.photos.tables import numbers_in
from placerec.records import Array

COUNT = struct.Struct("<Q")
HEAD = struct.Struct("<I7dI")  # image id, qw qx qy qz, tx ty tz, camera id; then name and points
POINT = 24  # bytes: x, y, and the number of a 3-D point


def read_colmap(folder: Path, overrides: Overrides) -> Dataset:
    """Read the data set in ``folder`` with its model."""
    for name in ("images.bin", "images.txt", "0/images.bin", "0/images.txt"):
        path = folder / "sparse" / name
        if path.is_file():
            images = _binary_images(path) if path.suffix == ".bin" else _text_images(path)
            return model_dataset("colmap", folder, by_name(path, images), path, overrides)
    wanted = folder / "sparse" / "images.bin"
    raise NotFound(wanted, "no such file", "add a COLMAP model, .bin or .txt")


def _binary_images(path: Path) -> Iterator[tuple[int, str, Array]]:
    data = path.read_bytes()
    problem = f"{path}: not a complete COLMAP model; write the model again"
    try:
        (count,) = COUNT.unpack_from(data)
        at = COUNT.size
        for number in range(1, count + 1):
            _, *values, _ = HEAD.unpack_from(data, at)
            end = data.index(b"\0", at + HEAD.size)
            name = data[at + HEAD.size : end].decode("utf-8", "surrogateescape")
            (points,) = COUNT.unpack_from(data, end + 1)
            at = end + 1 + COUNT.size + POINT * points
            if not np.isfinite(values).all():
                raise Damaged(f"{path}: the pose of {name!r} is not finite; write the model again")
            yield number, name, from_translation(path, number, values)
    except (struct.error, ValueError) as error:
        raise Damaged(f"{problem} ({error})") from error
    if at != len(data):
        raise Damaged(f"{problem} (it ends at byte {at} of {len(data)})")


def _text_images(path: Path) -> Iterator[tuple[int, str, Array]]:
    """Read two lines per image: its pose and name, and its points, which may be an empty line."""
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    content = [(n, line) for n, line in enumerate(lines, start=1) if not line.startswith("#")]
    for number, line in content[::2]:
        if not line.strip():
            continue
        fields = line.split(maxsplit=9)
        if len(fields) != 10:
            raise BadTable(path, number, "not id, qw qx qy qz, tx ty tz, camera, name")
        values = numbers_in(path, number, fields[1:8], 7)
        yield number, fields[9].strip(), from_translation(path, number, values)
