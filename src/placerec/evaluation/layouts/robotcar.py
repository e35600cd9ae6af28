"""RobotCar Seasons v2: one drive is the database, nine others (night, rain, snow) are queries.

Source: Sattler et al., CVPR 2018; visuallocalization.net. ``images/CONDITION/CAMERA/TIME.jpg``; the
poses of the database are in the NVM model ``3D-models/all-merged/all.nvm``.
``robotcar_v2_test.txt`` lists the queries whose poses the benchmark server does not publish,
``robotcar_v2_train.txt`` others with their poses (a matrix camera to world, row by row). The lists
and the model write .png for photos that are .jpg. All photos are one search, as Patch-NetVLAD's
authors evaluate it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from placerec.errors import BadTable
from placerec.evaluation.dataset import Dataset, Protocol, Search
from placerec.evaluation.layouts.nvm import nvm_poses
from placerec.evaluation.layouts.photo_lists import by_name, checked_name, listed_photos
from placerec.evaluation.layouts.poses import NO_POSE, RULE, pose_positives, with_poses
from placerec.photos.tables import numbers_in, read_lines
from placerec.records import Array

MODEL = "3D-models/all-merged/all.nvm"


def read_test(folder: Path) -> Dataset:
    """Read the queries whose ground truth only the server has."""
    return _read(folder, "robotcar-seasons-v2", folder / "robotcar_v2_test.txt", hidden=True)


def read_train(folder: Path) -> Dataset:
    """Read the queries whose poses are published."""
    table = folder / "robotcar_v2_train.txt"
    return _read(folder, "robotcar-seasons-v2-train", table, hidden=False)


def _read(folder: Path, name: str, table: Path, *, hidden: bool) -> Dataset:
    poses = {_jpg(photo): pose for photo, pose in nvm_poses(folder / MODEL).items()}
    database = with_poses(listed_photos(folder / "images", list(poses), folder / MODEL), poses)
    query_poses = by_name(table, _queries(table, hidden=hidden))
    queries = listed_photos(folder / "images", list(query_poses), table)
    queries = replace(queries, conditions=tuple(name.split("/")[0] for name in queries.names))
    if not hidden:
        queries = with_poses(queries, query_poses)
    search = Search("RobotCar Seasons", queries, database, pose_positives(queries, database))
    protocol = Protocol(name, RULE, hidden=hidden, poses=True)
    return Dataset("RobotCar Seasons v2", protocol, (search,))


def _queries(path: Path, *, hidden: bool) -> Iterator[tuple[int, str, Array]]:
    form = "a list CONDITION/CAMERA/TIME.jpg" + ("" if hidden else " and 16 numbers of a matrix")
    for line, text in read_lines(path, form):
        name, *numbers = text.split()
        matrix = NO_POSE
        if not hidden:
            matrix = np.array(numbers_in(path, line, numbers, 16)).reshape(4, 4)
            rotation = matrix[:3, :3]
            if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-2):
                raise BadTable(path, line, "its matrix is not a rotation and a centre")
        yield line, _jpg(checked_name(name, path)), matrix


def _jpg(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(".jpg"))
