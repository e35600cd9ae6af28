"""Find the photos of a folder, always in the same order.

The name of a photo is its path relative to the folder, because two cameras may both write
``1.jpg``. What is not a photo is left out, and counted by kind (docs/PHOTOS.md). Names are sorted
by their bytes, so the order does not depend on the locale or the disk. Undecodable bytes in names
are kept as surrogates (PEP 383).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path

from placerec.errors import NotFound
from placerec.files import is_file, is_folder

DECODED_SUFFIXES = frozenset((
    ".avif", ".bmp", ".gif", ".heic", ".heif", ".hif", ".jpe", ".jpeg", ".jpg", ".mpo", ".pbm",
    ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
))  # fmt: skip
CAMERA_RAW_SUFFIXES = frozenset([".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2"])
# Photos that ``decode`` does not support. They are listed, so that they are skipped with a reason.
UNDECODED_SUFFIXES = frozenset([".jp2", ".jxl"]) | CAMERA_RAW_SUFFIXES
PHOTO_SUFFIXES = DECODED_SUFFIXES | UNDECODED_SUFFIXES
VIDEO_SUFFIXES = frozenset((
    ".3g2", ".3gp", ".avi", ".flv", ".insv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg",
    ".mpg", ".mts", ".webm", ".wmv",
))  # fmt: skip
UNREADABLE_FOLDERS = "folders that cannot be read"  # the kind of those that are left out
LIVE_PHOTO_SUFFIXES = frozenset([".heic", ".heif", ".jpeg", ".jpg"])  # of the still picture
LIVE_VIDEO_SUFFIXES = frozenset([".mov", ".mp4"])

# Folders that no person made: lower-case name -> the kind of folder that is left out.
GENERATED_FOLDERS = {
    "@eadir": "thumbnail folders",  # Synology
    ".@__thumb": "thumbnail folders",  # QNAP
    ".thumbnails": "thumbnail folders",
    "#recycle": "recycle bins",  # Synology
    "@recycle": "recycle bins",  # QNAP
    "$recycle.bin": "recycle bins",  # Windows
    "__macosx": "macOS resource folders",
}


@dataclass(frozen=True, slots=True)
class Found:
    """What is below a folder, as relative posix paths sorted by their bytes.

    ``photos`` are the photos. ``left_out`` has the other files and folders by kind, in plural words
    ("videos"); a folder that is left out counts once, and its content is not looked at.
    """

    photos: list[str]
    left_out: dict[str, list[str]] = field(default_factory=dict)

    @property
    def unreadable(self) -> list[str]:
        """The folders that cannot be read; they are left out."""
        return self.left_out.get(UNREADABLE_FOLDERS, [])


def find_photos(folder: Path) -> list[str]:
    """Return the photos below ``folder``, as ``look_through`` finds them.

    Raises ``NotFound`` for a folder below it that cannot be read, too: no photo is missing.
    """
    content = look_through(folder)
    for name in content.unreadable:
        raise _unreadable(folder / name, "no permission, or a fault of the disk")
    return content.photos


def look_through(folder: Path) -> Found:
    """Return the photos below ``folder``, and what is left out.

    A photo has a photo's suffix, in any case. Links to files are followed. A broken link is listed,
    and ``decode`` reports it. Links to folders are not followed, so a loop of links ends. A folder
    below ``folder`` that cannot be read is left out. Raises ``NotFound`` if ``folder`` itself
    cannot be read.
    """
    if not is_folder(folder):
        problem = "is a file, not a folder" if is_file(folder) else "no such folder"
        raise NotFound(folder, problem, "give the folder that holds the photos")
    by_kind: dict[str, list[str]] = {}  # "" is the kind of photos

    def skip(error: OSError) -> None:
        path = Path(error.filename)
        if path == folder:
            raise _unreadable(folder, error.strerror) from error
        by_kind.setdefault(UNREADABLE_FOLDERS, []).append(path.relative_to(folder).as_posix())

    for parent, folders, names in os.walk(folder, onerror=skip):
        here = Path(parent)
        parts = map(_split, names)
        live = {stem.lower() for stem, suffix in parts if suffix in LIVE_PHOTO_SUFFIXES}
        kinds = [(name, _kind_of_file(here / name, live)) for name in names]
        of_folders = [(name, _kind_of_folder(here / name)) for name in folders]
        folders[:] = [name for name, kind in of_folders if not kind]
        for name, kind in kinds + [pair for pair in of_folders if pair[1]]:
            path = (here / name).relative_to(folder).as_posix()
            by_kind.setdefault(kind, []).append(path)
    by_kind = {kind: sorted(by_kind[kind], key=os.fsencode) for kind in sorted(by_kind)}
    return Found(by_kind.pop("", []), by_kind)


def kind_left_out(folder: Path, name: str) -> str:
    """Return as what ``look_through`` leaves out the photo ``name`` below ``folder``, or ``""``.

    The photo need not exist.
    """
    path = folder / name
    above = [place for place in path.parents if place.is_relative_to(folder) and place != folder]
    kinds = [_kind_of_folder(place) for place in reversed(above)]
    return next(filter(None, [*kinds, _kind_of_file(path, ())]), "")


def evenly_spread(count: int, most: int) -> list[int]:
    """Return at most ``most`` numbers below ``count``, evenly spread, in rising order.

    They choose the photos that a fit reads if there are too many.
    """
    chosen = min(count, most)
    return [number * count // chosen for number in range(chosen)]


def _kind_of_folder(path: Path) -> str:
    """Return the kind of a folder that is left out, or ``""``."""
    if path.name.lower() in GENERATED_FOLDERS:
        return GENERATED_FOLDERS[path.name.lower()]
    if path.name.startswith("."):
        return "hidden folders"
    return "linked folders" if os.path.islink(path) else ""  # noqa: PTH114 - never an error


def _kind_of_file(path: Path, live: Container[str]) -> str:
    """Return the kind of a file that is left out, or ``""`` for a photo.

    ``live`` has the lower-case stems of the photos of its folder that may have a video.
    """
    stem, suffix = _split(path.name)
    if path.name.startswith("._"):
        return "macOS resource files"  # AppleDouble
    if path.name.startswith("."):
        return "iCloud placeholders" if suffix == ".icloud" else "hidden files"
    if suffix in VIDEO_SUFFIXES:
        is_live = suffix in LIVE_VIDEO_SUFFIXES and stem.lower() in live
        return "videos of live photos" if is_live else "videos"
    if suffix not in PHOTO_SUFFIXES:
        return "other files"
    return "" if _may_be_read(path) else "pipes and devices"


def _split(name: str) -> tuple[str, str]:
    """Return the stem, and the suffix in lower case."""
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 - Path costs more per name
    return stem, suffix.lower()


def _may_be_read(path: Path) -> bool:
    """Return False for pipes, sockets and devices, which would block a reader."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return True  # a broken link, or no permission: ``decode`` reports it


def _unreadable(folder: Path, why: str | None) -> NotFound:
    remedy = "permit reading it, or move it out of the photos"
    return NotFound(folder, f"the folder cannot be read ({why})", remedy)
