"""COLMAP models: the poses of their images, from ``images.bin`` or ``images.txt``.

Source: COLMAP documentation, "Output format". As a data set: ``database/``, ``queries/`` and a
model in ``sparse/`` or ``sparse/0/`` whose image names begin with ``database/`` and ``queries/``. A
model has no unit of its own; it must be scaled to metres.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from placerec.errors import BadTable, Damaged, NotFound
from placerec.evaluation.dataset import Dataset
from placerec.evaluation.layouts.overrides import Options
from placerec.evaluation.layouts.poses import from_translation, posed
from placerec.photos.tables import numbers_in
from placerec.records import Array

COUNT = struct.Struct("<Q")
HEAD = struct.Struct("<I7dI")  # image id, qw qx qy qz, tx ty tz, camera id; then name and points
POINT = 24  # bytes: x, y, and the number of a 3-D point


def read_colmap(folder: Path, options: Options) -> Dataset:
    """The data set in ``folder`` with its model."""
    for model in (folder / "sparse", folder / "sparse" / "0"):
        for name in ("images.bin", "images.txt"):
            if (model / name).is_file():
                poses = colmap_poses(model)
                return posed("colmap", folder, poses, model / name, options)
    raise NotFound(
        folder / "sparse" / "images.bin",
        "no such file",
        "a COLMAP model, .bin or .txt, belongs there",
    )


def colmap_poses(model: Path) -> dict[str, Array]:
    """The pose (4, 4) of every image of the model in the folder ``model``, by name."""
    binary, text = model / "images.bin", model / "images.txt"
    if binary.is_file():
        return _of_binary(binary)
    if text.is_file():
        return _of_text(text)
    raise NotFound(binary, "no such file", "a COLMAP model, .bin or .txt, belongs there")


def _of_binary(path: Path) -> dict[str, Array]:
    data = path.read_bytes()
    poses: dict[str, Array] = {}
    try:
        (count,) = COUNT.unpack_from(data)
        at = COUNT.size
        for number in range(count):
            _, *values, _ = HEAD.unpack_from(data, at)
            end = data.index(b"\0", at + HEAD.size)
            name = data[at + HEAD.size : end].decode("utf-8", "surrogateescape")
            (points,) = COUNT.unpack_from(data, end + 1)
            at = end + 1 + COUNT.size + POINT * points
            if not np.isfinite(values).all():
                raise Damaged(f"{path}: the pose of {name!r} is not finite; write the model again")
            _add(poses, path, number + 1, name, values)
    except (struct.error, ValueError) as error:
        raise Damaged(f"{path}: no whole COLMAP model ({error}); write the model again") from error
    if at != len(data):
        raise Damaged(f"{path}: no whole COLMAP model (ends at {at} of {len(data)} bytes)")
    return poses


def _of_text(path: Path) -> dict[str, Array]:
    """Two lines an image: its pose and name, and its points, which may be an empty line."""
    poses: dict[str, Array] = {}
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    content = [(n, line) for n, line in enumerate(lines, start=1) if not line.startswith("#")]
    for number, line in content[::2]:
        if not line.strip():
            continue
        fields = line.split(maxsplit=9)
        if len(fields) != 10:
            raise BadTable(path, number, "not id, qw qx qy qz, tx ty tz, camera, name")
        _add(poses, path, number, fields[9].strip(), numbers_in(path, number, fields[1:8], 7))
    return poses


def _add(poses: dict[str, Array], path: Path, line: int, name: str, values: list[float]) -> None:
    if name in poses:
        raise BadTable(path, line, f"{name!r} stands twice")
    poses[name] = from_translation(path, line, values)
