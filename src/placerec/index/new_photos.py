"""Photos that are only in memory: each becomes a PNG file in the photo folder of an index.

So an index has no photo without a file: pictures, the page and a refresh treat it as any other.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from placerec.errors import FolderGone, NotFound, PhotoError, UsageError
from placerec.files import is_folder, new_file, path_of
from placerec.index.schema import name_bytes
from placerec.photos.decode import decode
from placerec.photos.find import kind_left_out
from placerec.photos.pixels import AnyPhoto, photo_of
from placerec.records import Array

SUFFIX = ".png"


def write_photos(root: Path, photos: Mapping[str, AnyPhoto], *, bgr: bool) -> list[Path]:
    """Write the pixels of each photo to its name below ``root``, and return the files.

    A name is a relative POSIX path with the suffix .png. A file with the same pixels stays as it
    is. Raises ``UsageError`` for a name that a walk through ``root`` leaves out, for a file with
    other content, and for what has no pixels; ``NoRoom`` if a file cannot be written. Then no file
    is new.
    """
    if not is_folder(root):
        raise FolderGone(root)
    new = [name for name in photos if _is_new(root, name, _pixels(photos[name], name, bgr))]
    made: list[Path] = []  # files, and the folders above them that were not there
    try:
        for name in new:
            path = root / name
            made += [folder for folder in reversed(path.parents) if not os.path.lexists(folder)]
            with new_file(path) as partial:
                Image.fromarray(_pixels(photos[name], name, bgr)).save(partial, "PNG")
            made.append(path)
    except BaseException:
        for path in reversed(made):
            with suppress(OSError):
                path.rmdir() if path.is_dir() else path.unlink()
        raise
    return [root / name for name in photos]


def _pixels(photo: AnyPhoto, name: str, bgr: bool) -> Array:
    if isinstance(photo, str | os.PathLike):
        raise UsageError(f"{name}: {photo!r:.100} is on the disk; give such paths as a list")
    try:
        return photo_of(photo, bgr=bgr).pixels
    except (UsageError, PhotoError) as error:
        raise UsageError(f"{name}: {getattr(error, 'reason', error)}") from error


def _is_new(root: Path, name: str, pixels: Array) -> bool:
    """Whether there is no file for these pixels yet; refuse a name that cannot be used."""
    if not isinstance(name, str):
        raise UsageError(f"name {name!r:.100}: give the path of the new photo as a str")
    name_bytes(name)
    if name.startswith("../"):
        raise UsageError(f"{name!r}: give a photo's path relative to the photo folder")
    path = path_of(root / name)
    if PurePosixPath(name).suffix.lower() != SUFFIX:
        raise UsageError(f"{name}: the photo is written as PNG; give a name with {SUFFIX}")
    if kind := kind_left_out(root, name):
        raise UsageError(f"{name}: photos leave out {kind}; choose another name")
    if not os.path.lexists(path):
        return True
    with suppress(PhotoError, NotFound):
        if np.array_equal(decode(path).pixels, pixels):
            return False
    raise UsageError(f"{path}: already there with other content; choose another name")
