"""Camera poses from the files of COLMAP, VisualSFM (NVM) and kapture.

The names in a COLMAP or NVM model begin with ``database/`` and ``queries/``. A model has no unit:
scale it to metres. Sources: COLMAP documentation, "Output format"; VisualSFM's documentation of
NVM_V3; kapture format 1.1.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from placerec.errors import BadTable, Damaged, NotFound
from placerec.evaluation.dataset import Dataset, Photos, Protocol, Search
from placerec.evaluation.layouts.general import Overrides
from placerec.evaluation.layouts.photo_lists import (
    DATABASE,
    QUERIES,
    by_name,
    checked_name,
    listed_photos,
    sides,
)
from placerec.evaluation.layouts.poses import (
    DEGREES,
    METRES,
    pose_in,
    pose_positives,
    pose_rule,
    with_poses,
)
from placerec.photos.tables import read_lines
from placerec.records import Array

COUNT = struct.Struct("<Q")
HEAD = struct.Struct("<I7dI")  # image id, qw qx qy qz, tx ty tz, camera id; then name and points
POINT = 24  # bytes: x, y, and the number of a 3-D point
VERSION = "NVM_V3"


def read_colmap(folder: Path, overrides: Overrides) -> Dataset:
    """Read the data set in ``folder``; the model in ``sparse/`` or ``sparse/0/`` decides."""
    for name in ("images.bin", "images.txt", "0/images.bin", "0/images.txt"):
        path = folder / "sparse" / name
        if path.is_file():
            images = _binary_images(path) if path.suffix == ".bin" else _text_images(path)
            return _model_dataset("colmap", folder, by_name(path, images), path, overrides)
    wanted = folder / "sparse" / "images.bin"
    raise NotFound(wanted, "no such file", "add a COLMAP model, .bin or .txt")


def read_nvm(folder: Path, overrides: Overrides) -> Dataset:
    """Read the data set in ``folder``; the only file ``*.nvm`` decides."""
    models = sorted(folder.glob("*.nvm")) or [folder / "model.nvm"]
    if len(models) > 1:
        raise Damaged(f"{folder}: {len(models)} .nvm files; keep only one of them")
    return _model_dataset("nvm", folder, nvm_poses(models[0]), models[0], overrides)


def read_kapture(folder: Path, overrides: Overrides) -> Dataset:
    """Read the data set in ``folder``; its trajectories decide."""
    queries, database = _kapture_side(folder, "query"), _kapture_side(folder, "mapping")
    source = folder / "mapping" / "sensors" / "trajectories.txt"
    return _pose_dataset("kapture", folder.name, queries, database, source, overrides)


def _model_dataset(
    protocol: str, folder: Path, poses: Mapping[str, Array], source: Path, overrides: Overrides
) -> Dataset:
    queries, database = sides(folder)
    queries, database = with_poses(queries, poses, QUERIES), with_poses(database, poses, DATABASE)
    return _pose_dataset(protocol, folder.name, queries, database, source, overrides)


def _pose_dataset(
    protocol: str, name: str, queries: Photos, database: Photos, source: Path, overrides: Overrides
) -> Dataset:
    """Return one search; the ground truth is hidden if no query has a pose."""
    if database.poses is None:
        raise NotFound(source, "it has no pose of a database photo", "check the names in it")
    metres, degrees = overrides.radius or METRES, overrides.degrees or DEGREES
    full_name = f"{protocol}, {metres:g} m, {degrees:g} degrees"
    hidden = queries.poses is None
    rule = Protocol(full_name, pose_rule(metres, degrees), hidden=hidden, poses=True)
    positives = pose_positives(queries, database, metres, degrees)
    return Dataset(name, rule, (Search(name, queries, database, positives),))


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
            yield number, name, pose_in(path, number, values, translated=True)
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
        yield number, fields[9].strip(), pose_in(path, number, fields[1:8], translated=True)


def nvm_poses(path: Path) -> dict[str, Array]:
    """Return the pose (4, 4) of every camera of the first model, by file name.

    One line per camera: file name, focal length, quaternion from world to camera, camera centre,
    radial distortion, 0.
    """
    return by_name(path, _nvm_cameras(path))


def _nvm_cameras(path: Path) -> Iterator[tuple[int, str, Array]]:
    lines = read_lines(path, f"an {VERSION} file")
    number, head = next(lines, (1, ""))
    if head.split()[:1] != [VERSION]:
        raise BadTable(path, number, f"it does not begin with {VERSION}")
    number, count = next(lines, (1, ""))
    if not count.isdecimal():
        raise BadTable(path, number, "not a number of cameras")
    for _ in range(int(count)):
        number, line = next(lines, (number, ""))
        fields = line.rsplit(maxsplit=10)  # a name may contain spaces
        if len(fields) != 11:
            wanted = "name, focal length, quaternion, centre, distortion, 0"
            raise BadTable(path, number, f"not {wanted}")
        yield number, checked_name(fields[0], path), pose_in(path, number, fields[2:9])


def _kapture_side(folder: Path, side: str) -> Photos:
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
    path = sensors / "rigs.txt"
    if path.is_file():
        for line, (rig, camera, *values) in _rows(path, 9):
            rigs.setdefault(rig, {})[camera] = pose_in(path, line, values, translated=True)
    poses: dict[tuple[str, str], Array] = {}
    path = sensors / "trajectories.txt"
    for line, (time, device, *values) in _rows(path, 9):
        if not all(values):
            continue  # the pose at this time is unknown
        pose = pose_in(path, line, values, translated=True)
        for camera, on_rig in rigs.get(device, {device: np.eye(4)}).items():
            poses[time, camera] = pose @ on_rig
    return poses


def _rows(path: Path, count: int) -> Iterator[tuple[int, list[str]]]:
    for line, text in read_lines(path, f"a kapture file with {count} values per line"):
        fields = [field.strip() for field in text.split(",")]
        if len(fields) != count:
            raise BadTable(path, line, f"{len(fields)} values, not {count}")
        yield line, fields
