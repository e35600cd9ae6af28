"""RobotCar Seasons v2 and Extended CMU Seasons: the sets of visuallocalization.net.

Source: Sattler et al., CVPR 2018; Badino et al., 2011. Only the benchmark server has the poses of
the test queries; those of the training queries are published. All photos are one search, as
Patch-NetVLAD's authors evaluate it. docs/DATASETS.md shows the folders.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path, PurePosixPath

import numpy as np

from placerec.errors import BadTable, NotFound
from placerec.evaluation.dataset import Dataset, Photos, Protocol, Search, joined
from placerec.evaluation.layouts.models import nvm_poses
from placerec.evaluation.layouts.photo_lists import by_name, checked_name, listed_photos
from placerec.evaluation.layouts.poses import (
    pose_in,
    pose_positives,
    pose_rule,
    posed_photos,
    with_poses,
)
from placerec.photos.tables import numbers_in, read_lines
from placerec.records import Array

MODEL = "3D-models/all-merged/all.nvm"
TEST_SLICES = (2, 3, 4, 5, 6, 13, 14, 15, 16, 17, 18, 19, 20, 21)
TRAIN_SLICES = (7, 8, 9, 10, 11, 12, 22, 23, 24, 25)
CONDITIONS = {  # the names of the owners for the days of the CMU drives
    date(2010, 9, 1): "sunny, foliage", date(2010, 9, 15): "sunny, foliage",
    date(2010, 10, 1): "cloudy, foliage", date(2010, 10, 19): "sunny, foliage",
    date(2010, 10, 28): "overcast, mixed foliage", date(2010, 11, 3): "low sun, mixed foliage",
    date(2010, 11, 12): "low sun, mixed foliage", date(2010, 11, 22): "cloudy, mixed foliage",
    date(2010, 12, 21): "low sun, no foliage, snow", date(2011, 3, 4): "low sun, foliage",
    date(2011, 4, 4): "sunny, no foliage", date(2011, 7, 28): "overcast, foliage",
}  # fmt: skip
MOMENT = re.compile(r"_(\d{16})us")


def read_robotcar(folder: Path, name: str) -> Dataset:
    """Read the test queries or, if ``name`` ends with ``-train``, the training queries."""
    hidden = not name.endswith("-train")
    poses = {_jpg(photo): pose for photo, pose in nvm_poses(folder / MODEL).items()}
    database = posed_photos(folder / "images", poses, folder / MODEL)
    table = folder / f"robotcar_v2_{'test' if hidden else 'train'}.txt"
    query_poses = by_name(table, _robotcar_queries(table, hidden=hidden))
    queries = listed_photos(folder / "images", list(query_poses), table)
    queries = with_poses(queries, {} if hidden else query_poses)
    queries = replace(queries, conditions=tuple(photo.split("/")[0] for photo in queries.names))
    search = Search("RobotCar Seasons", queries, database, pose_positives(queries, database))
    protocol = Protocol(name, pose_rule(), hidden=hidden, poses=True)
    return Dataset("RobotCar Seasons v2", protocol, (search,))


def _robotcar_queries(path: Path, *, hidden: bool) -> Iterator[tuple[int, str, Array]]:
    form = "a list CONDITION/CAMERA/TIME.jpg" + ("" if hidden else " and 16 numbers of a matrix")
    for line, text in read_lines(path, form):
        name, *numbers = text.split()
        matrix = np.eye(4)
        if not hidden:
            matrix = np.array(numbers_in(path, line, numbers, 16)).reshape(4, 4)
            rotation = matrix[:3, :3]
            if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-2):
                raise BadTable(path, line, "its matrix is not a rotation and a centre")
        yield line, _jpg(checked_name(name, path)), matrix


def _jpg(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(".jpg"))


def read_cmu(folder: Path, name: str) -> Dataset:
    """Read the test slices or, if ``name`` ends with ``-train``, the training slices."""
    hidden = not name.endswith("-train")
    slices = TEST_SLICES if hidden else TRAIN_SLICES
    pairs = [
        _cmu_slice(folder, number, hidden=hidden)
        for number in slices
        if (folder / f"slice{number}").is_dir()
    ]
    if not pairs:
        wanted = folder / f"slice{slices[0]}"
        raise NotFound(wanted, "no such folder", f"unpack a slice of {slices}")
    positives: list[frozenset[int]] = []
    before = 0  # database photos of the slices before
    for queries, database in pairs:
        for rows in pose_positives(queries, database):
            positives.append(frozenset(row + before for row in rows))
        before += len(database)
    if len(pairs) < len(slices):
        name += f", {len(pairs)} of {len(slices)} slices"
    queries, database = map(joined, zip(*pairs, strict=True))
    search = Search("Extended CMU Seasons", queries, database, tuple(positives))
    protocol = Protocol(name, f"of one slice, {pose_rule()}", hidden=hidden, poses=True)
    return Dataset("Extended CMU Seasons", protocol, (search,))


def _cmu_slice(folder: Path, number: int, *, hidden: bool) -> tuple[Photos, Photos]:
    root = folder / f"slice{number}"
    table = root / f"ground-truth-database-images-slice{number}.txt"
    poses = by_name(table, _cmu_poses(table, f"{root.name}/database/"))
    database = posed_photos(folder, poses, table)
    prefix = f"{root.name}/query/"
    if hidden:
        table = root / f"test-images-slice{number}.txt"
        lines = read_lines(table, "a list of query photos")
        names = dict.fromkeys(prefix + checked_name(line, table) for _, line in lines)
        queries = listed_photos(folder, list(names), table)
    else:
        tables = sorted((root / "camera-poses").glob("*.txt"))
        if not tables:
            raise NotFound(root / "camera-poses", "no .txt file in it", "unpack the slice again")
        poses = {}
        for table in tables:
            for name, pose in by_name(table, _cmu_poses(table, prefix)).items():
                poses.setdefault(name, pose)
        queries = posed_photos(folder, poses, tables[0])
    return _with_conditions(queries), _with_conditions(database)


def _cmu_poses(path: Path, prefix: str) -> Iterator[tuple[int, str, Array]]:
    for line, text in read_lines(path, "a list name qw qx qy qz cx cy cz"):
        name, *values = text.split()
        yield line, prefix + checked_name(name, path), pose_in(path, line, values)


def _with_conditions(photos: Photos) -> Photos:
    return replace(photos, conditions=tuple(map(_condition, photos.names)))


def _condition(name: str) -> str:
    """Return the condition of the drive closest in time to the microseconds in the name."""
    moment = MOMENT.search(name)
    if moment is None:
        return ""
    day = datetime.fromtimestamp(int(moment[1]) / 1e6, UTC).date()
    return CONDITIONS[min(CONDITIONS, key=lambda drive: abs(drive - day))]
