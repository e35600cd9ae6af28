"""Lists of names that a data set's owner wrote, as photos on this disk.

A list may come from anywhere, so a name never leads out of the folder, stands once, and is a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from placerec.errors import Damaged, NotFound
from placerec.evaluation.dataset import Photos


def listed(root: Path, names: Sequence[str], source: Path) -> Photos:
    """The photos ``names`` below ``root``, which the file ``source`` lists, in its order."""
    if not names:
        raise Damaged(f"{source}: it lists no photo; unpack the data set again")
    tidy = [safe(name, source) for name in names]
    seen: set[str] = set()
    for name in tidy:
        if name in seen:
            raise Damaged(f"{source}: {name!r} stands twice; correct the file")
        seen.add(name)
    photos = Photos(tuple(tidy), tuple(root / name for name in tidy))
    missing = [path for path in photos.paths if not path.is_file()]
    if missing:
        raise NotFound(
            missing[0],
            f"no such photo; {source.name} lists it ({len(missing)} of {len(names)} are missing)",
            "unpack the whole data set; docs/DATASETS.md shows how its folder looks",
        )
    return photos


def safe(name: str, source: Path) -> str:
    """A listed name in plain form; never absolute, never out of its folder."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or parts[0] == "/" or ".." in parts or "\0" in name or ":" in parts[0]:
        raise Damaged(f"{source}: {name!r} leads out of the data set's folder; correct the file")
    return "/".join(parts)
