"""Find the photo that another program means by a name, and the name by which it knows a photo.

Names of photos are relative paths. Other programs write them with more folders in front (an
absolute path), with fewer folders, or without the suffix (Mapillary's keys). If two photos match,
that is an error, never a guess. hloc, COLMAP and kapture know a photo by its path below one folder
of images. So if queries and database are in separate folders, these folders are part of that path.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from posixpath import commonpath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from placerec.evaluation.dataset import Photos, Search

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"))

Key = tuple[str, str]  # the names of a search and a photo


def paths_in_tree(search: Search) -> tuple[dict[str, str], dict[str, str]]:
    """Return the paths of the queries and of the database photos by name.

    The paths are relative to the deepest folder that contains both sides. Distractors may be
    anywhere, so they keep their names.
    """
    own = search.own_names
    roots = [_root(search.queries, len(search.queries)), _root(search.database, len(own))]
    prefixes = [PurePosixPath()] * 2
    if all(Path(root).is_absolute() for root in roots):
        tree = commonpath(roots)
        prefixes = [PurePosixPath(root).relative_to(tree) for root in roots]
    queries, database = (
        {name: name if prefix == PurePosixPath() else f"{prefix}/{name}" for name in names}
        for prefix, names in zip(prefixes, (search.queries.names, own), strict=True)
    )
    return queries, {name: name for name in search.database.names} | database


class PhotoNames:
    """Photos, each known by its name and by its path in the tree."""

    def __init__(self) -> None:
        self._exact: dict[str, list[Key]] = defaultdict(list)
        self._by_file: dict[str, list[tuple[Key, str]]] = defaultdict(list)

    def add(self, search: str, paths: Mapping[str, str]) -> None:
        """Add photos of a search; ``paths`` are the paths in the tree by name."""
        for photo, path in paths.items():
            for name in {photo, path}:
                self._exact[name].append((search, photo))
            file = PurePosixPath(path)
            for name in {file.name, file.stem}:
                self._by_file[name].append(((search, photo), path))

    def find(self, name: str, kind: str) -> Key:
        """Return the photo with this name, or else the one whose path ends with it or ends it.

        Paths in the tree are compared before names, which may lack the folder of their side. A
        suffix may be missing, and may differ if no photo has it. Raises ``ValueError`` if no photo
        or several photos match; ``kind`` is the word for the photo in its message.
        """
        matches = self._exact.get(name, []) or self._by_ending(PurePosixPath(name))
        if len(matches) > 1:
            choices = " or ".join(f"{photo} ({search})" for search, photo in sorted(matches)[:2])
            raise ValueError(f"{kind} {name} may be {choices}; give more of its path")
        if not matches:
            raise ValueError(f"{name} is no {kind} of this data set")
        return matches[0]

    def _by_ending(self, path: PurePosixPath) -> list[Key]:
        for file in (path.name, path.stem) if path.suffix.lower() in SUFFIXES else (path.name,):
            photos = self._by_file.get(file, [])
            for paths in (photos, [(key, key[1]) for key, _ in photos]):
                matches = [key for key, other in paths if _same_folders(path, PurePosixPath(other))]
                if matches:
                    return matches
        return []


def _root(photos: Photos, count: int) -> str:
    """Return the folder that the first names are relative to; empty if there is no such folder."""
    roots = set()
    for name, path in zip(photos.names[:count], photos.paths, strict=False):
        full = path.as_posix()
        roots.add(full.removesuffix(f"/{name}") if full.endswith(f"/{name}") else "")
    return roots.pop() if len(roots) == 1 else ""


def _same_folders(path: PurePosixPath, other: PurePosixPath) -> bool:
    """Whether the folders, from the last to the first, are equal as far as both have one."""
    folders = ([part for part in reversed(p.parts[:-1]) if part != "/"] for p in (path, other))
    return all(a == b for a, b in zip(*folders, strict=False))
