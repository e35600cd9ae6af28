"""Photos for the page: small JPEGs as data URIs, and the matches of a pair."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from placerec.errors import NotFound, PhotoError
from placerec.evaluation.report.rendering import evenly
from placerec.photos.decode import decode
from placerec.records import Array

LONGER_SIDE = 320  # pixels
MAX_BYTES = 15_000  # per JPEG: 72 photos in base64 stay below 1.5 MB
QUALITIES = (80, 65, 50, 35, 20)  # the first that is small enough
HEIGHT = 240  # units of the view box
MAX_MATCHES = 30


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A photo for the page: the JPEG ``data``, or no data and the ``reason``."""

    width: int
    height: int
    data: bytes = field(repr=False)
    reason: str = ""

    @property
    def uri(self) -> str:
        """The photo as ``data:image/jpeg;base64,...``."""
        return "data:image/jpeg;base64," + base64.b64encode(self.data).decode("ascii")

    @property
    def drawn_width(self) -> float:
        """Its width at ``HEIGHT``; a very wide or very narrow photo is drawn with other sides."""
        return HEIGHT * min(max(self.width / self.height, 0.4), 4.0)


def thumbnail(photo: Path) -> Thumbnail:
    """Return the upright photo with a longer side of at most 320 pixels and about 15 kB.

    Never raises: a photo that cannot be read has a reason instead of data.
    """
    try:
        pixels = decode(photo, shrink_to=(2 * LONGER_SIDE, 2 * LONGER_SIDE)).pixels
    except PhotoError as error:
        return Thumbnail(LONGER_SIDE, HEIGHT, b"", error.reason)
    except NotFound:
        return Thumbnail(LONGER_SIDE, HEIGHT, b"", "no such photo")
    image = Image.fromarray(pixels)
    image.thumbnail((LONGER_SIDE, LONGER_SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
    data = b""
    for quality in QUALITIES:
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=quality, optimize=True)
        data = stream.getvalue()
        if len(data) <= MAX_BYTES:
            break
    return Thumbnail(image.width, image.height, data)


def drawn_matches(points: Array | None) -> Array:
    """Return at most ``MAX_MATCHES`` of the ``points`` (M, 4), ordered by x in the query."""
    if points is None:
        return np.empty((0, 4))
    finite = points[np.isfinite(points).all(axis=1)].astype(np.float64)
    inside = np.clip(finite, 0.0, 1.0)
    return evenly(inside[np.lexsort(inside.T[::-1])], MAX_MATCHES)
