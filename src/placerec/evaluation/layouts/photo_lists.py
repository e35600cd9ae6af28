"""The photos of a data set: from a list in a file, or from ``database/`` and ``queries/``.

A list may come from an untrusted source. A name therefore never leads out of the folder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import TypeVar

from placerec.errors import BadTable, Damaged, NotFound
from placerec.evaluation.dataset import Photos
from placerec.photos.find import find_photos

QUERIES, DATABASE = "queries/", "database/"

Value = TypeVar("Value")


def sides(folder: Path) -> tuple[Photos, Photos]:
    """Return the photos below ``queries/`` and ``database/`` of ``folder``, sorted by name."""
    return photos_below(folder, QUERIES), photos_below(folder, DATABASE)


def photos_below(folder: Path, side: str, prefix: str = "") -> Photos:
    """Return the photos below ``folder/side``; ``prefix`` begins every name."""
    root = folder / side
    if not root.is_dir():
        raise NotFound(root, "no such folder", "docs/DATASETS.md shows the folders of a data set")
    names = find_photos(root)
    if not names:
        raise NotFound(root, "no photo in it", "copy the photos to this folder")
    return Photos(tuple(prefix + name for name in names), tuple(root / name for name in names))


def listed_photos(root: Path, names: Sequence[str], source: Path) -> Photos:
    """Return the photos ``names`` below ``root`` in the order of their list ``source``.

    Raises ``Damaged`` for a wrong or repeated name, ``NotFound`` if a photo is missing.
    """
    if not names:
        raise Damaged(f"{source}: it lists no photo; unpack the data set again")
    checked = tuple(checked_name(name, source) for name in names)
    if len(set(checked)) < len(checked):
        repeated = Counter(checked).most_common(1)[0][0]
        raise Damaged(f"{source}: {repeated!r} occurs twice; correct the file")
    photos = Photos(checked, tuple(root / name for name in checked))
    missing = [path for path in photos.paths if not path.is_file()]
    if missing:
        raise NotFound(
            missing[0],
            f"no such photo; {source.name} lists it ({len(missing)} of {len(names)} are missing)",
            "unpack the complete data set; docs/DATASETS.md shows its folders",
        )
    return photos


def checked_name(name: str, source: Path) -> str:
    """Return a listed name in posix form; raises ``Damaged`` if it leads out of its folder."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or parts[0] == "/" or ".." in parts or "\0" in name or ":" in parts[0]:
        raise Damaged(f"{source}: {name!r} leads out of the data set's folder; correct the file")
    return "/".join(parts)


def by_name(path: Path, rows: Iterable[tuple[int, str, Value]]) -> dict[str, Value]:
    """Return the values of rows (line, name, value) of a file by name.

    Raises ``BadTable`` if a name occurs twice.
    """
    values: dict[str, Value] = {}
    for line, name, value in rows:
        if name in values:
            raise BadTable(path, line, f"{name!r} occurs twice")
        values[name] = value
    return values
