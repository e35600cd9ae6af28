"""The general protocols: which of them fits a folder, if the user names none.

Published data sets are never detected, because several of them can fit one folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from placerec.errors import NotFound
from placerec.evaluation.dataset import Dataset
from placerec.evaluation.layouts.overrides import Overrides
from placerec.evaluation.layouts.photo_lists import DATABASE, QUERIES

SIDES = (DATABASE, QUERIES)
SETTING = "setting "  # begins a marker that is not a file


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
        return all(_exists(folder, marker, overrides) for marker in self.markers) and (
            self.accepts is None or self.accepts(folder)
        )

    def takes(self, overrides: Overrides) -> bool:
        """Return whether the protocol accepts all settings that were given."""
        truth = overrides.ground_truth
        return overrides.names.issubset(self.overrides) and (
            truth is None or self.npz == (truth.suffix.lower() == ".npz")
        )


def detect_protocol(
    folder: Path, overrides: Overrides, general: Mapping[str, General],
    published: Iterable[str],
) -> str:  # fmt: skip
    """Return the name of the first general protocol that fits ``folder`` and the settings."""
    for name, protocol in general.items():
        if protocol.takes(overrides) and protocol.fits(folder, overrides):
            return name
    fitting = [name for name in general if general[name].fits(folder, overrides)]
    if fitting:
        accepted = (overrides.names.intersection(general[name].overrides) for name in fitting)
        refused = ", ".join(sorted(overrides.names.difference(*accepted) or overrides.names))
        problem = f"no protocol for {refused}: the folder fits {', '.join(fitting)}"
        raise NotFound(folder, problem, "omit this setting, or name another protocol")
    looked_for = "; ".join(
        f"{name}: {' + '.join(protocol.markers).replace('|', ' or ')}"
        for name, protocol in general.items()
    )
    problem = (
        f"not a general data set (looked for {looked_for}); published data sets are only read by "
        f"the name of their protocol ({', '.join(published)})"
    )
    raise NotFound(folder, problem, "name a protocol; docs/DATASETS.md shows the layouts")


def _exists(folder: Path, marker: str, overrides: Overrides) -> bool:
    return any(
        pattern.removeprefix(SETTING) in overrides.names
        if pattern.startswith(SETTING)
        else next(folder.glob(pattern), None) is not None
        for pattern in marker.split("|")
    )
