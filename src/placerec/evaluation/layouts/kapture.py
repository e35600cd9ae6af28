"""kapture: a folder ``mapping`` (the database) and a folder ``query``, each with ``sensors/``.

Source: kapture format 1.1. ``records_camera.txt`` (timestamp, device, image below
``records_data/``), ``trajectories.txt`` (timestamp, device, qw qx qy qz, tx ty tz from world to
device) and, where a trajectory is that of a rig, ``rigs.txt`` (rig, device, the same from rig to
device). Queries without trajectories make a set whose truth is hidden.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from placerec.errors import BadTable
from placerec.evaluation.dataset import Dataset, Photos
from placerec.evaluation.layouts.names import listed
from placerec.evaluation.layouts.overrides import Options
from placerec.evaluation.layouts.poses import from_translation, judged, with_poses
from placerec.photos.tables import numbers_in, read_lines
from placerec.records import Array


def read_kapture(folder: Path, options: Options) -> Dataset:
    """The data set in ``folder``, judged by its poses."""
    queries, database = _side(folder, "query"), _side(folder, "mapping")
    source = folder / "mapping" / "sensors" / "trajectories.txt"
    return judged("kapture", folder.name, queries, database, source, options)


def _side(folder: Path, side: str) -> Photos:
    sensors = folder / side / "sensors"
    records = sensors / "records_camera.txt"
    images: dict[str, tuple[str, str]] = {}
    for line, fields in _rows(records, 3):
        if fields[2] in images:
            raise BadTable(records, line, f"{fields[2]!r} stands twice")
        images[fields[2]] = fields[0], fields[1]
    photos = listed(sensors / "records_data", list(images), records)
    if not (sensors / "trajectories.txt").is_file():
        return photos
    devices = _trajectories(sensors)
    poses = {
        tidy: devices[at]
        for tidy, at in zip(photos.names, images.values(), strict=True) if at in devices
    }  # fmt: skip
    return with_poses(photos, poses)


def _trajectories(sensors: Path) -> dict[tuple[str, str], Array]:
    """Camera to world (4, 4) by timestamp and device, rigs taken apart into their cameras."""
    rigs: dict[str, dict[str, Array]] = {}
    if (sensors / "rigs.txt").is_file():
        for line, fields in _rows(sensors / "rigs.txt", 9):
            rigs.setdefault(fields[0], {})[fields[1]] = _pose(sensors / "rigs.txt", line, fields)
    found: dict[tuple[str, str], Array] = {}
    path = sensors / "trajectories.txt"
    for line, fields in _rows(path, 9):
        if not all(fields[2:]):
            continue  # a moment whose pose is not known
        pose = _pose(path, line, fields)
        for camera, on_rig in rigs.get(fields[1], {fields[1]: np.eye(4)}).items():
            found[fields[0], camera] = pose @ on_rig
    return found


def _pose(path: Path, line: int, fields: list[str]) -> Array:
    return from_translation(path, line, numbers_in(path, line, fields[2:], 7))


def _rows(path: Path, count: int) -> Iterator[tuple[int, list[str]]]:
    for line, text in read_lines(path, f"a kapture file with {count} values a line"):
        fields = [field.strip() for field in text.split(",")]
        if len(fields) != count:
            raise BadTable(path, line, f"{len(fields)} values, not {count}")
        yield line, fields
