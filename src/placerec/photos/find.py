"""The photos of a folder, always in the same order.

A photo is named by its path relative to the folder, never by its base name: two cameras both
write ``1.jpg``. The order is that of the names' bytes, so it depends on no locale and no disk.
Names are kept as the system gives them, undecodable bytes as surrogates (PEP 383).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from placerec.errors import NotFound

DECODED_SUFFIXES = frozenset(
    [".bmp", ".gif", ".jpe", ".jpeg", ".jpg", ".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm"]
) | frozenset([".tif", ".tiff", ".webp"])
CAMERA_RAW_SUFFIXES = frozenset([".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2"])
# Photos to a person, but not to ``decode``: found, so that they are skipped with a reason.
UNDECODED_SUFFIXES = frozenset([".avif", ".heic", ".heif", ".jp2", ".jxl"]) | CAMERA_RAW_SUFFIXES


def find_photos(folder: Path) -> list[str]:
    """Return the photos below ``folder`` as relative posix paths, sorted by their bytes.

    Hidden files and folders (a leading dot) and files without a photo's suffix are ignored. A
    link to a folder is not followed, so a loop ends; a link to a file is, and a dangling one is
    listed, so that reading it says what is wrong. A folder that cannot be read is an error.
    """
    if not folder.is_dir():
        wrong = "is a file, not a folder" if folder.exists() else "no such folder"
        raise NotFound(folder, wrong, "give the folder that holds the photos")
    found = []
    for where, folders, names in os.walk(folder, onerror=_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            (Path(where) / name).relative_to(folder).as_posix()
            for name in names
            if _looks_like_a_photo(name) and _may_be_read(Path(where) / name)
        ]
    return sorted(found, key=os.fsencode)


def _looks_like_a_photo(name: str) -> bool:
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - Path costs more per name
    return not name.startswith(".") and suffix in DECODED_SUFFIXES | UNDECODED_SUFFIXES


def _may_be_read(path: Path) -> bool:
    """Tell pipes, sockets and devices, which would block a reader, from files."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return True  # a dangling link, or no permission: decode will name it


def _unreadable(error: OSError) -> None:
    raise NotFound(
        error.filename,
        f"the folder cannot be read ({error.strerror})",
        "permit reading it, or move it out of the photos",
    ) from error
