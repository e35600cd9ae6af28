"""kapture: folders ``mapping`` (the database) and ``query``, each with ``sensors/``.

Source: kapture format 1.1. ``records_camera.txt`` has timestamp, device, and image below
``records_data/``; ``trajectories.txt`` has timestamp, device, qw qx qy qz, tx ty tz from world to
device. If a trajectory is that of a rig, ``rigs.txt`` has rig, device, and the same numbers from
rig to device. Without trajectories of the queries the ground truth is hidden.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from placerec.errors import BadTable
from placerec.evaluation.dataset import Dataset, Photos
from placerec.evaluation.layouts.overrides import Overrides
from placerec.evaluation.layouts.photo_lists import by_name, listed_photos
from placerec.evaluation.layouts.poses import from_translation, pose_dataset, with_poses
from placerec.photos.tables import numbers_in, read_lines
from placerec.records import Array


def read_kapture(folder: Path, overrides: Overrides) -> Dataset:
    """Read the data set in ``folder``; its poses decide."""
    queries, database = _side(folder, "query"), _side(folder, "mapping")
    source = folder / "mapping" / "sensors" / "trajectories.txt"
    return pose_dataset("kapture", folder.name, queries, database, source, overrides)


def _side(folder: Path, side: str) -> Photos:
    sensors = folder / side / "sensors"
    records = sensors / "records_camera.txt"
    images = by_name(
        records,
        ((line, image, (time, device)) for line, (time, device, image) in _rows(records, 3)),
    )
    photos = listed_photos(sensors / "records_data", list(images), records)
    if not (sensors / "trajectories.txt").is_file():
        return photos
    poses = _trajectories(sensors)
    records_of_photos = zip(photos.names, images.values(), strict=True)
    return with_poses(photos, {name: poses[key] for name, key in records_of_photos if key in poses})


def _trajectories(sensors: Path) -> dict[tuple[str, str], Array]:
    """Return camera to world (4, 4) by timestamp and camera; a rig becomes its cameras."""
    rigs: dict[str, dict[str, Array]] = {}
    if (sensors / "rigs.txt").is_file():
        for line, fields in _rows(sensors / "rigs.txt", 9):
            rigs.setdefault(fields[0], {})[fields[1]] = _pose(sensors / "rigs.txt", line, fields)
    poses: dict[tuple[str, str], Array] = {}
    path = sensors / "trajectories.txt"
    for line, fields in _rows(path, 9):
        if not all(fields[2:]):
            continue  # the pose at this time is unknown
        pose = _pose(path, line, fields)
        for camera, on_rig in rigs.get(fields[1], {fields[1]: np.eye(4)}).items():
            poses[fields[0], camera] = pose @ on_rig
    return poses


def _pose(path: Path, line: int, fields: list[str]) -> Array:
    return from_translation(path, line, numbers_in(path, line, fields[2:], 7))


def _rows(path: Path, count: int) -> Iterator[tuple[int, list[str]]]:
    for line, text in read_lines(path, f"a kapture file with {count} values per line"):
        fields = [field.strip() for field in text.split(",")]
        if len(fields) != count:
            raise BadTable(path, line, f"{len(fields)} values, not {count}")
        yield line, fields
