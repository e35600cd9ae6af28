"""Draw an answer: both photos side by side, the agreeing patches joined by lines."""

from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageDraw

from placerec.errors import UsageError
from placerec.files import atomic_write, path_of, require_folder_of
from placerec.photos.pixels import AnyPhoto, photo_of
from placerec.records import Array, Place

PANEL_HEIGHT = 480
GAP = 12
MOST_DRAWN = 40
BACKGROUND = (24, 24, 28)
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
QUALITY = 90  # of JPEG and WebP
SOFTWARE = "placerec"  # the EXIF tag of every picture, by which ``is_drawn`` recognises it


def draw_match(query: AnyPhoto, database: AnyPhoto, place: Place, out: str | Path) -> None:
    """Draw the photos ``query`` and ``database``, in any form, with the matches of ``place``.

    The suffix of ``out`` decides the format: .png, .jpg or .webp. At most 40 matches are drawn,
    spread over the photo, each in its own colour. The colours run from left to right in the query:
    parallel lines in the order of colours are a good sign. Raises ``UsageError`` for another
    suffix, and ``NotFound`` if the folder of ``out`` does not exist.
    """
    out = path_of(out)
    if not isinstance(place, Place):
        raise UsageError(f"place: {place!r:.100}; give a Place of an answer")
    kind = picture_format(out)
    left, right = (_panel(photo_of(photo).pixels) for photo in (query, database))
    offset = left.width + GAP
    canvas = Image.new("RGB", (offset + right.width, PANEL_HEIGHT), BACKGROUND)
    canvas.paste(left, (0, 0))
    canvas.paste(right, (offset, 0))
    layer = Image.new("RGBA", canvas.size, (0, 0, 0, 0))
    pen = ImageDraw.Draw(layer)
    for query_box, database_box in zip(*drawn_boxes(place), strict=True):
        boxes = _pixels(query_box, left, 0), _pixels(database_box, right, offset)
        hue = 0.85 * (query_box[0] + query_box[2]) / 2
        red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.75, 1.0))
        for box in boxes:
            pen.rectangle(box, outline=(red, green, blue, 235), width=2)
        middles = [((x0 + x1) / 2, (y0 + y1) / 2) for x0, y0, x1, y1 in boxes]
        pen.line(middles, fill=(red, green, blue, 150), width=2)
    drawn = Image.alpha_composite(canvas.convert("RGBA"), layer).convert("RGB")
    exif = Image.Exif()
    exif[ExifTags.Base.Software] = SOFTWARE
    with atomic_write(out) as partial:
        drawn.save(partial, kind, quality=QUALITY, exif=exif)


def is_drawn(path: Path) -> bool:
    """Return whether ``draw_match`` drew the file at ``path``, which may be of any kind."""
    try:
        with Image.open(path, formats=sorted(set(FORMATS.values()))) as image:
            return image.getexif().get(ExifTags.Base.Software) == SOFTWARE
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def picture_format(out: Path) -> str:
    """Return Pillow's name of the format in which ``out`` can be drawn.

    Raises ``UsageError`` for an unknown suffix, ``NotFound`` if its folder does not exist.
    """
    require_folder_of(out)
    if out.suffix.lower() not in FORMATS:
        raise UsageError(f"{out}: a picture has the suffix {', '.join(FORMATS)}; choose one")
    return FORMATS[out.suffix.lower()]


def _panel(pixels: Array) -> Image.Image:
    image = Image.fromarray(pixels)
    width = max(1, round(image.width * PANEL_HEIGHT / image.height))
    return image.resize((min(width, 4 * PANEL_HEIGHT), PANEL_HEIGHT), Image.Resampling.LANCZOS)


def drawn_boxes(place: Place) -> tuple[Array, Array]:
    """Return boxes (n, 4) in query and database, as fractions: matches of the largest patch size.

    They are chosen greedily so that the drawn patches of the query hardly overlap.
    """
    matches = [match for match in place.matches if match.inliers]
    if not matches:
        return np.empty((0, 4)), np.empty((0, 4))
    match = max(matches, key=lambda match: match.query_grid.size)
    boxes = match.query_grid.boxes(match.pairs[:, 0])
    apart = (boxes[0, 2:] - boxes[0, :2]) * 0.9
    chosen: list[int] = []
    for number, box in enumerate(boxes):
        near = np.abs(boxes[chosen, :2] - box[:2]) < apart
        if len(chosen) < MOST_DRAWN and not near.all(axis=1).any():
            chosen.append(number)
    return boxes[chosen], match.database_grid.boxes(match.pairs[chosen, 1])


def _pixels(box: Array, image: Image.Image, offset: int) -> tuple[float, float, float, float]:
    left, top, right, bottom = (float(edge) for edge in box)
    x, y = offset + left * image.width, top * image.height
    # In a very narrow photo a patch may be less than a pixel wide.
    return x, y, max(x, offset + right * image.width - 1), max(y, bottom * image.height - 1)
