"""NVM models of VisualSFM: the poses of their cameras.

Source: VisualSFM's documentation of NVM_V3. A line a camera: file name, focal length, quaternion
(w x y z) from world to camera, camera place, radial distortion, 0. As a data set: ``database/``,
``queries/`` and one ``.nvm`` file whose names begin with ``database/`` and ``queries/``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from placerec.errors import BadTable, Damaged, NotFound
from placerec.evaluation.dataset import Dataset
from placerec.evaluation.layouts.names import safe
from placerec.evaluation.layouts.overrides import Options
from placerec.evaluation.layouts.poses import from_centre, posed
from placerec.photos.tables import numbers_in
from placerec.records import Array

VERSION = "NVM_V3"


def read_nvm(folder: Path, options: Options) -> Dataset:
    """The data set in ``folder`` with its model."""
    found = sorted(folder.glob("*.nvm"))
    if not found:
        raise NotFound(folder / "model.nvm", "no such file", f"one {VERSION} file belongs there")
    if len(found) > 1:
        raise Damaged(f"{folder}: {len(found)} .nvm files; leave one of them")
    return posed("nvm", folder, nvm_poses(found[0]), found[0], options)


def nvm_poses(path: Path) -> dict[str, Array]:
    """The pose (4, 4) of every camera of the first model, by file name without a leading ``./``."""
    if not path.is_file():
        raise NotFound(path, "no such file", f"an {VERSION} file belongs there")
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        lines = ((n, line.strip()) for n, line in enumerate(file, start=1) if line.strip())
        number, head = next(lines, (1, ""))
        if head.split()[:1] != [VERSION]:
            raise BadTable(path, number, f"it does not begin with {VERSION}")
        return _cameras(path, lines)


def _cameras(path: Path, lines: Iterator[tuple[int, str]]) -> dict[str, Array]:
    number, text = next(lines, (1, ""))
    if not text.isdecimal():
        raise BadTable(path, number, "no number of cameras")
    poses: dict[str, Array] = {}
    for _ in range(int(text)):
        number, line = next(lines, (number, ""))
        fields = line.rsplit(maxsplit=10)  # a name may have spaces
        if len(fields) != 11:
            raise BadTable(path, number, "not name, focal length, quaternion, place, distortion, 0")
        name = safe(fields[0], path)
        if name in poses:
            raise BadTable(path, number, f"{name!r} stands twice")
        poses[name] = from_centre(path, number, numbers_in(path, number, fields[2:9], 7))
    return poses
