"""Find the photos of a folder, always in the same order.

The name of a photo is its path relative to the folder, because two cameras may both write
``1.jpg``. Names are sorted by their bytes, so the order does not depend on the locale or the disk.
Undecodable bytes in names are kept as surrogates (PEP 383).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from placerec.errors import NotFound

DECODED_SUFFIXES = frozenset((
    ".bmp", ".gif", ".jpe", ".jpeg", ".jpg", ".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif",
    ".tiff", ".webp",
))  # fmt: skip
CAMERA_RAW_SUFFIXES = frozenset([".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2"])
# Photos that ``decode`` does not support. They are listed, so that they are skipped with a reason.
UNDECODED_SUFFIXES = frozenset([".avif", ".heic", ".heif", ".jp2", ".jxl"]) | CAMERA_RAW_SUFFIXES


def find_photos(folder: Path) -> list[str]:
    """Return the photos below ``folder`` as relative posix paths, sorted by their bytes.

    Hidden files and folders (a leading dot) and files without a photo's suffix are ignored. Links
    to folders are not followed, so a loop of links ends. Links to files are followed. A broken link
    is listed, and ``decode`` reports it. Raises ``NotFound`` for a folder that cannot be read.
    """
    if not folder.is_dir():
        problem = "is a file, not a folder" if folder.exists() else "no such folder"
        raise NotFound(folder, problem, "give the folder that holds the photos")
    photos = []
    for parent, folders, names in os.walk(folder, onerror=_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        photos += [
            (Path(parent) / name).relative_to(folder).as_posix()
            for name in names
            if _has_photo_name(name) and _may_be_read(Path(parent) / name)
        ]
    return sorted(photos, key=os.fsencode)


def evenly_spread(count: int, most: int) -> list[int]:
    """Return at most ``most`` numbers below ``count``, evenly spread, in rising order.

    They choose the photos that a fit reads if there are too many.
    """
    chosen = min(count, most)
    return [number * count // chosen for number in range(chosen)]


def _has_photo_name(name: str) -> bool:
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - Path costs more per name
    return not name.startswith(".") and suffix in DECODED_SUFFIXES | UNDECODED_SUFFIXES


def _may_be_read(path: Path) -> bool:
    """Return False for pipes, sockets and devices, which would block a reader."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return True  # a broken link, or no permission: ``decode`` reports it


def _unreadable(error: OSError) -> None:
    raise NotFound(
        error.filename,
        f"the folder cannot be read ({error.strerror})",
        "permit reading it, or move it out of the photos",
    ) from error
