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

from placerec.errors import BadTable
from placerec.evaluation.dataset import Photos
from placerec.evaluation.geometry import neighbours, positions_of, with_points
from placerec.evaluation.layouts.photo_lists import listed_photos
from placerec.photos.tables import numbers_in
from placerec.records import Array

METRES, DEGREES = 5.0, 10.0  # the widest tolerance of the benchmarks defines a positive
NO_POSE = np.full((4, 4), np.nan)


def pose_rule(metres: float = METRES, degrees: float = DEGREES) -> str:
    """Return the rule of ``pose_positives`` in words."""
    return f"at most {metres:g} m apart, turned by at most {degrees:g} degrees"


def pose_in(
    path: Path, line: int, values: Sequence[str | float], *, translated: bool = False
) -> Array:
    """Return the pose (4, 4) of seven numbers: qw qx qy qz of R, then c or, if ``translated``, t.

    The quaternion is normalised. Raises ``BadTable`` with ``path`` and ``line`` if a number is
    invalid or the quaternion is zero.
    """
    numbers = np.array(numbers_in(path, line, values, 7))
    norm = float(np.linalg.norm(numbers[:4]))
    if norm < 1e-9:
        raise BadTable(path, line, "its quaternion is zero")
    w, x, y, z = numbers[:4] / norm
    rotation = np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ])  # fmt: skip
    pose = np.eye(4)
    pose[:3, :3] = rotation.T
    pose[:3, 3] = -rotation.T @ numbers[4:] if translated else numbers[4:]
    return pose


def with_poses(photos: Photos, poses: Mapping[str, Array], prefix: str = "") -> Photos:
    """Return ``photos`` with the poses that ``poses`` has for ``prefix`` and name.

    A photo without a pose gets NaN; if no photo has one, nothing changes.
    """
    if not any(prefix + name in poses for name in photos.names):
        return photos
    matrices = np.stack([poses.get(prefix + name, NO_POSE) for name in photos.names])
    return with_points(replace(photos, poses=matrices), matrices[:, :3, 3].copy())


def posed_photos(root: Path, poses: Mapping[str, Array], source: Path) -> Photos:
    """Return the photos below ``root`` that the file ``source`` lists with their poses."""
    return with_poses(listed_photos(root, list(poses), source), poses)


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
