"""Which photo another program means by a name.

Names of photos are relative paths. Others write them with more folders in front (an absolute path),
with fewer, or without the suffix (Mapillary's keys). A bare file name is no identity: where two
photos fit, that is an error, never a guess.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import PurePosixPath

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"))

Key = tuple[str, str]  # search and name


class PhotoNames:
    """Photos, each known by its search and name."""

    def __init__(self, photos: Iterable[Key]) -> None:
        self._exact: dict[str, list[Key]] = defaultdict(list)
        self._by_last: dict[str, list[Key]] = defaultdict(list)
        for key in photos:
            last = PurePosixPath(key[1]).name
            self._exact[key[1]].append(key)
            for part in {last, PurePosixPath(last).stem}:
                self._by_last[part].append(key)

    def find(self, name: str, kind: str) -> Key:
        """The photo that has this name; else the one whose path ends so, or is the end of it.

        Suffixes are compared where both have one, and left aside where only so a photo fits.
        Raises ``ValueError`` (``kind`` says of what) where none or several fit.
        """
        fits = self._exact.get(name, []) or self._ending(name)
        if len(fits) > 1:
            told = " or ".join(f"{key[1]} ({key[0]})" for key in sorted(fits)[:2])
            raise ValueError(f"{kind} {name} may be {told}; give more of its path")
        if not fits:
            raise ValueError(f"{name} is no {kind} of this data set")
        return fits[0]

    def _ending(self, name: str) -> list[Key]:
        path = PurePosixPath(name)
        lasts = [path.name]
        if path.suffix.lower() in SUFFIXES:
            lasts.append(path.stem)
        folders = _folders(path)
        for last in lasts:
            fits = [
                key
                for key in self._by_last.get(last, [])
                if all(
                    a == b for a, b in zip(folders, _folders(PurePosixPath(key[1])), strict=False)
                )
            ]
            if fits:
                return fits
        return []


def _folders(path: PurePosixPath) -> list[str]:
    """The folders from the last to the first, as far as both have one they are compared."""
    return [part for part in reversed(path.parts[:-1]) if part != "/"]
