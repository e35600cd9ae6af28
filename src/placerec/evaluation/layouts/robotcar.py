"""RobotCar Seasons v2: one drive as the map, nine others (night, rain, snow ...) as queries.

Source: Sattler et al., CVPR 2018; visuallocalization.net. ``images/CONDITION/CAMERA/TIME.jpg``; the
map is the NVM model ``3D-models/all-merged/all.nvm``. ``robotcar_v2_test.txt`` names the queries
whose poses the benchmark server keeps, ``robotcar_v2_train.txt`` others with their poses (a matrix
camera to world, row by row). The lists and the model say .png of photos that are .jpg. All photos
are one search, as Patch-NetVLAD's authors did it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from placerec.errors import BadTable
from placerec.evaluation.dataset import Dataset, Photos, Protocol, Search
from placerec.evaluation.layouts.names import listed, safe
from placerec.evaluation.layouts.nvm import nvm_poses
from placerec.evaluation.layouts.overrides import Options
from placerec.evaluation.layouts.poses import DEGREES, METRES, pose_positives, with_poses
from placerec.photos.tables import numbers_in, read_lines
from placerec.records import Array

MODEL = "3D-models/all-merged/all.nvm"
RULE = f"at most {METRES:g} m apart, turned by at most {DEGREES:g} degrees"


def read_test(folder: Path, _: Options) -> Dataset:
    """The queries whose truth the server keeps."""
    return _read(folder, "robotcar-seasons-v2", folder / "robotcar_v2_test.txt", hidden=True)


def read_train(folder: Path, _: Options) -> Dataset:
    """The queries whose poses are published."""
    return _read(
        folder, "robotcar-seasons-v2-train", folder / "robotcar_v2_train.txt", hidden=False
    )


def _read(folder: Path, name: str, table: Path, *, hidden: bool) -> Dataset:
    poses = {_jpg(photo): pose for photo, pose in nvm_poses(folder / MODEL).items()}
    database = with_poses(listed(folder / "images", list(poses), folder / MODEL), poses)
    asked = _query_poses(table, hidden=hidden)
    queries = _with_conditions(listed(folder / "images", list(asked), table))
    if not hidden:
        queries = with_poses(queries, asked)
    search = Search("RobotCar Seasons", queries, database, pose_positives(queries, database))
    return Dataset(
        "RobotCar Seasons v2", Protocol(name, RULE, hidden=hidden, poses=True), (search,)
    )


def _query_poses(path: Path, *, hidden: bool) -> dict[str, Array]:
    """Names CONDITION/CAMERA/TIME.jpg with their poses (NaN where the list has none)."""
    form = "a list CONDITION/CAMERA/TIME.jpg" + ("" if hidden else " and 16 numbers of a matrix")
    found: dict[str, Array] = {}
    for line, text in read_lines(path, form):
        name, *numbers = text.split()
        matrix = np.full((4, 4), np.nan)
        if not hidden:
            matrix = np.array(numbers_in(path, line, numbers, 16)).reshape(4, 4)
            turn = matrix[:3, :3]
            if not np.allclose(turn @ turn.T, np.eye(3), atol=1e-2):
                raise BadTable(path, line, "its matrix is no rotation and place")
        name = _jpg(safe(name, path))
        if name in found:
            raise BadTable(path, line, f"{name!r} stands twice")
        found[name] = matrix
    return found


def _with_conditions(photos: Photos) -> Photos:
    return replace(photos, conditions=tuple(name.split("/")[0] for name in photos.names))


def _jpg(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(".jpg"))
