"""Convert any colour mode of a photo to 8-bit RGB.

========================  =====================================================================
in the file               in the result
========================  =====================================================================
RGB, grey, 1-bit          the same colour
CMYK, YCbCr               Pillow's conversion (also of Adobe's inverted CMYK JPEG)
transparency, any kind    laid over black: invisible parts are black, as in warped photos
16-bit grey               the high byte, as Pillow converts 16-bit colour; the same for 32-bit
                          integers that hold 16-bit values
floating point, 32-bit    values in 0..1 are multiplied by 255; other values are stretched from
                          the least finite value (0) to the greatest (255); NaN is black
========================  =====================================================================

Colour profiles (ICC) are not applied, because the trunks were trained on pixels as stored.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from placerec.records import Array


def to_rgb(image: Image.Image) -> Image.Image:
    """Return the loaded ``image`` in mode RGB."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_to_bytes(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        visible = image.convert("RGBA")
        black = Image.new("RGBA", visible.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, visible).convert("RGB")
    return image.convert("RGB")


def _to_bytes(grey: Array) -> Array:
    """Return (H, W) integers or floats of any range as uint8, without clipping."""
    if grey.dtype.kind in "iu" and grey.min() >= 0 and grey.max() <= 0xFFFF:
        return (grey >> 8).astype(np.uint8)
    values = grey.astype(np.float64)
    finite = np.isfinite(values)
    least, greatest = (values[finite].min(), values[finite].max()) if finite.any() else (0.0, 1.0)
    if grey.dtype.kind == "f" and least >= 0 and greatest <= 1:
        least, greatest = 0.0, 1.0
    span = max(greatest - least, np.finfo(np.float64).tiny)
    scaled = (np.where(finite, values, least) - least) / span
    return np.where(np.isposinf(values), 255, np.round(255 * scaled)).astype(np.uint8)
