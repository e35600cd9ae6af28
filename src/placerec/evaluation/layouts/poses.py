"""Camera poses: what the formats store, as one matrix, and who stands and looks like whom.

Everything here is camera to world, [[R', c], [0, 1]]: R turns world into camera coordinates (x
right, y down, z ahead), c is where the camera stands, t = -R c is its "translation". COLMAP and
kapture store R and t, NVM and the CMU lists R and c. Sources: COLMAP documentation, "Output
format"; kapture format 1.1; VisualSFM's NVM; Sattler et al., CVPR 2018, for the tolerances.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from placerec.errors import BadTable, NotFound
from placerec.evaluation.dataset import Dataset, Photos, Protocol, Search
from placerec.evaluation.geometry import neighbours, one_place, positions_of
from placerec.evaluation.layouts.folder import DATABASE, QUERIES, sides
from placerec.evaluation.layouts.overrides import Options
from placerec.records import Array

METRES, DEGREES = 5.0, 10.0  # the widest tolerance of the benchmarks: what counts as a positive
NO_POSE = np.full((4, 4), np.nan)


def rotation(quaternion: Sequence[float]) -> Array | None:
    """(3, 3) of w, x, y, z, which is brought to unit length; ``None`` of a zero one."""
    norm = float(np.linalg.norm(quaternion))
    if norm < 1e-9:
        return None
    w, x, y, z = np.asarray(quaternion, np.float64) / norm
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ])  # fmt: skip


def from_centre(path: Path, line: int, values: Sequence[float]) -> Array:
    """Pose (4, 4) of qw qx qy qz of R and the camera's place c."""
    turn = _turn(path, line, values)
    return _pose(turn, np.asarray(values[4:7], np.float64))


def from_translation(path: Path, line: int, values: Sequence[float]) -> Array:
    """Pose (4, 4) of qw qx qy qz of R and t."""
    turn = _turn(path, line, values)
    return _pose(turn, -turn.T @ np.asarray(values[4:7], np.float64))


def with_poses(photos: Photos, poses: Mapping[str, Array]) -> Photos:
    """``photos`` with the poses of their names, NaN for others, and the places they stand at."""
    if not any(name in poses for name in photos.names):
        return photos
    found = np.stack([poses.get(name, NO_POSE) for name in photos.names])
    positions = found[:, :3, 3].copy()
    return replace(photos, poses=found, positions=positions, places=one_place(positions))


def pose_positives(
    queries: Photos, database: Photos, metres: float = METRES, degrees: float = DEGREES
) -> tuple[frozenset[int], ...]:
    """For each query the database photos at most so far away, turned by at most so much.

    A query whose pose is not known has none.
    """
    if queries.poses is None or database.poses is None:
        return (frozenset(),) * len(queries)
    near = neighbours(positions_of(queries), positions_of(database), metres)
    found = []
    for pose, numbers in zip(queries.poses, near, strict=True):
        # trace(A' B) = 1 + 2 cos of the angle between the rotations A and B
        trace = np.einsum("ij,nij->n", pose[:3, :3], database.poses[numbers, :3, :3])
        angle = np.degrees(np.arccos(np.clip((trace - 1) / 2, -1.0, 1.0)))
        found.append(frozenset(numbers[angle <= degrees].tolist()))
    return tuple(found)


def posed(
    protocol: str, folder: Path, poses: Mapping[str, Array], source: Path, options: Options
) -> Dataset:
    """``database/`` and ``queries/`` with the poses of ``database/NAME`` and ``queries/NAME``.

    Without the pose of any query the truth is hidden; with some, the others have no positive.
    """
    queries, database = (
        with_poses(photos, {name.removeprefix(side): pose for name, pose in poses.items()
                            if name.startswith(side)})
        for side, photos in zip((QUERIES, DATABASE), sides(folder), strict=True)
    )  # fmt: skip
    return judged(protocol, folder.name, queries, database, source, options)


def judged(
    protocol: str, name: str, queries: Photos, database: Photos, source: Path, options: Options
) -> Dataset:
    """One search of a general format, judged by the poses that ``source`` gives."""
    if database.poses is None:
        raise NotFound(source, "it has the pose of no database photo", "check the names in it")
    metres, degrees = options.radius or METRES, options.degrees or DEGREES
    positives = pose_positives(queries, database, metres, degrees)
    kept = Protocol(
        options.named(protocol, f"{metres:g} m", f"{degrees:g} degrees"),
        f"at most {metres:g} m apart, turned by at most {degrees:g} degrees",
        options.panorama, hidden=queries.poses is None, poses=True,
    )  # fmt: skip
    return Dataset(name, kept, (Search(name, queries, database, positives),))


def _turn(path: Path, line: int, values: Sequence[float]) -> Array:
    turn = rotation(values[:4])
    if turn is None:
        raise BadTable(path, line, "its quaternion is zero")
    return turn


def _pose(turn: Array, centre: Array) -> Array:
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn.T, centre
    return pose
