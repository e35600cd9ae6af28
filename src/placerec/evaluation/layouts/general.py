"""General protocols: their settings, and which of them fits a folder if the user names none.

Published data sets are never detected, because several of them can fit one folder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from placerec.errors import NotFound
from placerec.evaluation.dataset import Dataset
from placerec.evaluation.layouts.photo_lists import DATABASE, QUERIES
from placerec.settings import require, require_number, require_whole

SIDES = (DATABASE, QUERIES)
TRUTHS = "dataset_gt_files"  # the subfolder of the ground truths of image lists
SETTING = "setting "  # begins a marker that is not a file


@dataclass(frozen=True, slots=True)
class Overrides:
    """What a user changes of a general protocol; ``None`` keeps the protocol's default.

    A database photo is a positive up to ``radius`` metres and ``degrees`` of heading from the
    query, or up to ``frames`` frames before and after it. Only the best photo of
    ``photos_a_panorama`` consecutive database photos stays on a shortlist. ``ground_truth`` is
    an existing file.
    """

    radius: float | None = None
    degrees: float | None = None
    frames: int | None = None
    photos_a_panorama: int | None = None
    ground_truth: Path | None = None

    def __post_init__(self) -> None:
        for name, least in (("frames", 0), ("photos_a_panorama", 1)):
            if getattr(self, name) is not None:
                require_whole(name, getattr(self, name), least)
        for name, most in (("radius", math.inf), ("degrees", 180.0)):
            if getattr(self, name) is not None:
                number = require_number(name, getattr(self, name))
                above = "metres above 0" if most == math.inf else f"above 0 and at most {most:g}"
                require(0 < number <= most, name, f"{above}, not {number:g}")

    @property
    def names(self) -> frozenset[str]:
        """The names of the settings that have a value."""
        return frozenset(f.name for f in fields(self) if getattr(self, f.name) is not None)


def find_ground_truth(folder: Path, name: Path) -> Path:
    """Return a ground truth: a file ``name`` in ``folder`` or ``TRUTHS``, or with this path."""
    for path in (folder / name, folder / TRUTHS / name, name):
        if path.is_file():
            return path
    problem = f"no such file, neither as a path nor in {folder}"
    raise NotFound(name, problem, "give the path of a ground truth file")


@dataclass(frozen=True, slots=True)
class General:
    """How the data sets of a general protocol are read and detected.

    ``overrides``: the settings that the protocol accepts. ``markers``: patterns of files and
    folders, or ``setting NAME``; all must exist in a data set, alternatives are separated by a
    bar. ``accepts`` is an additional check of the folder, called last. ``npz``: the setting
    ``ground_truth`` is an ``.npz`` file; for all other protocols it is not.
    """

    read: Callable[[Path, Overrides], Dataset]
    overrides: tuple[str, ...]
    markers: tuple[str, ...]
    accepts: Callable[[Path], bool] | None = None
    npz: bool = False

    def fits(self, folder: Path, overrides: Overrides) -> bool:
        """Return whether ``folder`` has the files of this protocol."""
        for marker in self.markers:
            settings = {f"{SETTING}{name}" for name in overrides.names}
            patterns = marker.split("|")
            if settings.isdisjoint(patterns) and not any(
                next(folder.glob(pattern), None) is not None for pattern in patterns
            ):
                return False
        return self.accepts is None or self.accepts(folder)

    def takes(self, overrides: Overrides) -> bool:
        """Return whether the protocol accepts all settings that were given."""
        truth = overrides.ground_truth
        return overrides.names.issubset(self.overrides) and (
            truth is None or self.npz == (truth.suffix.lower() == ".npz")
        )


def detect_protocol(folder: Path, overrides: Overrides, general: Mapping[str, General]) -> str:
    """Return the name of the first general protocol that fits ``folder`` and the settings."""
    fitting = []
    for name, protocol in general.items():
        if protocol.fits(folder, overrides):
            if protocol.takes(overrides):
                return name
            fitting.append(name)
    if fitting:
        accepted = (general[name].overrides for name in fitting)
        refused = ", ".join(sorted(overrides.names.difference(*accepted) or overrides.names))
        problem = f"no protocol for {refused}: the folder fits {', '.join(fitting)}"
        raise NotFound(folder, problem, "omit this setting, or name another protocol")
    problem = (
        f"not a data set: give a folder with {' and '.join(SIDES)}, and with ground_truth.csv, "
        f"coordinates.csv or GPS tags in the photos"
    )
    remedy = "docs/DATASETS.md has the other layouts, and the protocol of each published data set"
    raise NotFound(folder, problem, remedy)
