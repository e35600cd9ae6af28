"""Camera poses as matrices, and positives by the distance and rotation between two poses.

A pose is camera to world, [[R', c], [0, 1]]: R rotates world into camera coordinates (x right,
y down, z forward), c is the camera's centre, t = -R c its translation. COLMAP and kapture store R
and t; NVM and the CMU lists store R and c. Sources: COLMAP documentation, "Output format"; kapture
format 1.1; VisualSFM's NVM; Sattler et al., CVPR 2018, for the tolerances.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from placerec.errors import BadTable, NotFound
from placerec.evaluation.dataset import Dataset, Photos, Protocol, Search
from placerec.evaluation.geometry import neighbours, positions_of, with_points
from placerec.evaluation.layouts.overrides import Overrides
from placerec.evaluation.layouts.photo_lists import DATABASE, QUERIES, sides
from placerec.records import Array

METRES, DEGREES = 5.0, 10.0  # the widest tolerance of the benchmarks defines a positive
RULE = f"at most {METRES:g} m apart, turned by at most {DEGREES:g} degrees"
NO_POSE = np.full((4, 4), np.nan)


def rotation(quaternion: Sequence[float]) -> Array | None:
    """Return the matrix (3, 3) of w, x, y, z after normalisation; ``None`` if all are zero."""
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
    """Return the pose (4, 4) of qw qx qy qz of R and the camera's centre c.

    ``path`` and ``line`` locate the values for errors.
    """
    rotated = rotation(values[:4])
    if rotated is None:
        raise BadTable(path, line, "its quaternion is zero")
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotated.T, values[4:7]
    return pose


def from_translation(path: Path, line: int, values: Sequence[float]) -> Array:
    """Return the pose (4, 4) of qw qx qy qz of R and the translation t."""
    pose = from_centre(path, line, values)
    pose[:3, 3] = -pose[:3, :3] @ np.asarray(values[4:7], np.float64)
    return pose


def with_poses(photos: Photos, poses: Mapping[str, Array], prefix: str = "") -> Photos:
    """Return ``photos`` with the poses that ``poses`` has for ``prefix`` and name.

    A photo without a pose gets NaN; if no photo has one, nothing changes.
    """
    if not any(prefix + name in poses for name in photos.names):
        return photos
    matrices = np.stack([poses.get(prefix + name, NO_POSE) for name in photos.names])
    return with_points(replace(photos, poses=matrices), matrices[:, :3, 3].copy())


def pose_positives(
    queries: Photos, database: Photos, metres: float = METRES, degrees: float = DEGREES
) -> tuple[frozenset[int], ...]:
    """Return for each query the rows of the database photos within a distance and a rotation.

    A query without a pose has no positive.
    """
    if queries.poses is None or database.poses is None:
        return (frozenset(),) * len(queries)
    near = neighbours(positions_of(queries), positions_of(database), metres)
    positives = []
    for pose, rows in zip(queries.poses, near, strict=True):
        # trace(A' B) = 1 + 2 cos of the angle between the rotations A and B
        trace = np.einsum("ij,nij->n", pose[:3, :3], database.poses[rows, :3, :3])
        angle = np.degrees(np.arccos(np.clip((trace - 1) / 2, -1.0, 1.0)))
        positives.append(frozenset(rows[angle <= degrees].tolist()))
    return tuple(positives)


def model_dataset(
    protocol: str, folder: Path, poses: Mapping[str, Array], source: Path, overrides: Overrides
) -> Dataset:
    """Return ``database/`` and ``queries/`` with the poses that a model file ``source`` has.

    The names in ``poses`` begin with ``database/`` and ``queries/``.
    """
    queries, database = sides(folder)
    queries, database = with_poses(queries, poses, QUERIES), with_poses(database, poses, DATABASE)
    return pose_dataset(protocol, folder.name, queries, database, source, overrides)


def pose_dataset(
    protocol: str, name: str, queries: Photos, database: Photos, source: Path,
    overrides: Overrides,
) -> Dataset:  # fmt: skip
    """Return one search of a general protocol; the poses, read from ``source``, decide.

    The ground truth is hidden if no query has a pose.
    """
    if database.poses is None:
        raise NotFound(source, "it has no pose of a database photo", "check the names in it")
    metres, degrees = overrides.radius or METRES, overrides.degrees or DEGREES
    positives = pose_positives(queries, database, metres, degrees)
    rule = Protocol(
        overrides.protocol_name(protocol, f"{metres:g} m", f"{degrees:g} degrees"),
        f"at most {metres:g} m apart, turned by at most {degrees:g} degrees",
        overrides.panorama, hidden=queries.poses is None, poses=True,
    )  # fmt: skip
    return Dataset(name, rule, (Search(name, queries, database, positives),))
