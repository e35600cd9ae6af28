"""Photos as the page shows them: small JPEGs, made from the pixels alone, so without EXIF."""

from __future__ import annotations

import io
import threading
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from PIL import Image

from placerec.errors import NotFound
from placerec.photos.decode import decode
from placerec.records import Array

LARGE, SMALL = 1280, 240  # pixels of the longest side
QUALITY = 85
KEPT = 256  # pictures in memory, at most about 300 kB each
decoding = threading.BoundedSemaphore(2)  # a large photo takes 256 MB while it is decoded


@dataclass(frozen=True, slots=True)
class Picture:
    """A JPEG file and its size in pixels (width, height)."""

    jpeg: bytes = field(repr=False)
    size: tuple[int, int]


def picture_of(pixels: Array, longest: int = LARGE) -> Picture:
    """Return pixels (H, W, 3) uint8 RGB as a JPEG of at most ``longest`` pixels a side."""
    image, file = Image.fromarray(pixels), io.BytesIO()
    image.thumbnail((longest, longest))
    image.save(file, "JPEG", quality=QUALITY)
    return Picture(file.getvalue(), image.size)


def photo_picture(folder: Path, name: str, longest: int) -> Picture:
    """Return the photo ``name`` of ``folder`` as a picture.

    Raises ``NotFound`` if it is not there, or if it is outside of the folder (a link, or a damaged
    index); a ``PhotoError`` if it cannot be read.
    """
    try:
        path = (folder / name).resolve()
        inside = path.is_relative_to(folder.resolve())
        changed = path.stat().st_mtime_ns if inside else 0
    except (OSError, RuntimeError, ValueError) as error:  # a RuntimeError for a circle of links
        raise NotFound(name, "no such photo", "refresh the index") from error
    if not inside:
        raise NotFound(name, "outside of the folder of the index", "copy the photo into it")
    return _file_picture(path, changed, longest)


@lru_cache(maxsize=KEPT)
def _file_picture(path: Path, _changed: int, longest: int) -> Picture:
    with decoding:
        return picture_of(decode(path, shrink_to=(longest, longest)).pixels, longest)
