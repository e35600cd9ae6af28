"""Which photo another program means by a name, and by which name it knows a photo.

Names of photos are relative paths. Others write them with more folders in front (an absolute path),
with fewer, or without the suffix (Mapillary's keys). A bare file name is no identity: where two
photos fit, that is an error, never a guess. hloc, COLMAP and kapture know a photo by its path below
one folder of images, so where queries and database lie in folders of their own, these belong to it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from posixpath import commonpath

from placerec.evaluation.dataset import Search

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"))

Key = tuple[str, str]  # search and name


def paths_in_tree(search: Search) -> tuple[dict[str, str], dict[str, str]]:
    """The queries' and the database photos' paths below one folder of images, by their names.

    That folder is the deepest one that holds both sides. Distractors, which may lie anywhere, keep
    their names.
    """
    own = len(search.database) - search.distractors
    names = search.queries.names, search.database.names[:own]
    roots = [
        _root(some, paths)
        for some, paths in zip(names, (search.queries.paths, search.database.paths), strict=True)
    ]
    before = [""] * len(roots)
    if all(Path(root).is_absolute() for root in roots):
        whole = PurePosixPath(commonpath(roots))
        parts = [PurePosixPath(root).relative_to(whole).as_posix() for root in roots]
        before = ["" if part == "." else f"{part}/" for part in parts]
    queries, database = (
        {name: first + name for name in some} for first, some in zip(before, names, strict=True)
    )
    return queries, database | {name: name for name in search.database.names[own:]}


class PhotoNames:
    """Photos, each known by its search and name, and by its path in the tree (its value)."""

    def __init__(self, photos: Mapping[Key, str]) -> None:
        self._exact: dict[str, list[Key]] = defaultdict(list)
        self._by_last: dict[str, list[tuple[Key, str]]] = defaultdict(list)
        for key, path in photos.items():
            for name in {key[1], path}:
                self._exact[name].append(key)
            last = PurePosixPath(path).name
            for part in {last, PurePosixPath(last).stem}:
                self._by_last[part].append((key, path))

    def find(self, name: str, kind: str) -> Key:
        """The photo that has this name; else the one whose path ends so, or is the end of it.

        Paths in the tree go before names, which may lack the folder of their side. Suffixes are
        compared where both have one, and left aside where only so a photo fits. Raises
        ``ValueError`` (``kind`` says of what) where none or several fit.
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
            found = self._by_last.get(last, [])
            for known in (found, [(key, key[1]) for key, _ in found]):
                fits = [k for k, p in known if _agree(folders, _folders(PurePosixPath(p)))]
                if fits:
                    return fits
        return []


def _root(names: Sequence[str], paths: Sequence[Path]) -> str:
    """The folder that the names are relative to; empty where that is not one for all."""
    roots = {
        whole.removesuffix(f"/{name}") if whole.endswith(f"/{name}") else ""
        for name, whole in zip(names, (path.as_posix() for path in paths), strict=False)
    }
    return roots.pop() if len(roots) == 1 else ""


def _agree(folders: Sequence[str], others: Sequence[str]) -> bool:
    """Whether the folders, from the last to the first, are the same as far as both have one."""
    return all(a == b for a, b in zip(folders, others, strict=False))


def _folders(path: PurePosixPath) -> list[str]:
    return [part for part in reversed(path.parts[:-1]) if part != "/"]
