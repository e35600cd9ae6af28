"""NVM models of VisualSFM: the poses of their cameras.

Source: VisualSFM's documentation of NVM_V3. One line per camera: file name, focal length,
quaternion (w x y z) from world to camera, camera centre, radial distortion, 0. Names begin with
``database/`` and ``queries/``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from placerec.errors import BadTable, Damaged, NotFound
from placerec.evaluation.dataset import Dataset
from placerec.evaluation.layouts.overrides import Overrides
from placerec.evaluation.layouts.photo_lists import by_name, checked_name
from placerec.evaluation.layouts.poses import from_centre, model_dataset
from placerec.photos.tables import numbers_in
from placerec.records import Array

VERSION = "NVM_V3"


def read_nvm(folder: Path, overrides: Overrides) -> Dataset:
    """Read the data set in ``folder`` with its model."""
    models = sorted(folder.glob("*.nvm"))
    if not models:
        raise NotFound(folder / "model.nvm", "no such file", f"add one {VERSION} file")
    if len(models) > 1:
        raise Damaged(f"{folder}: {len(models)} .nvm files; keep only one of them")
    return model_dataset("nvm", folder, nvm_poses(models[0]), models[0], overrides)


def nvm_poses(path: Path) -> dict[str, Array]:
    """Return the pose (4, 4) of every camera of the first model, by file name."""
    if not path.is_file():
        raise NotFound(path, "no such file", f"add an {VERSION} file")
    return by_name(path, _cameras(path))


def _cameras(path: Path) -> Iterator[tuple[int, str, Array]]:
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        lines = ((n, line.strip()) for n, line in enumerate(file, start=1) if line.strip())
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
            values = numbers_in(path, number, fields[2:9], 7)
            yield number, checked_name(fields[0], path), from_centre(path, number, values)
