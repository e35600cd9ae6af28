"""Convert pixels to the tensor that a trunk takes; all trunks use the same rule.

The rule is that of the published program (Patch-NetVLAD, ``tools/datasets.py: input_transform``):
resize to a fixed size without keeping the aspect ratio, bilinear with antialiasing, then normalise
each channel. The published means are for pixels in 0..1; here they are for 0..255.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from placerec.errors import UsageError
from placerec.records import Array

OWN_SIZE = (0, 0)  # the photo keeps its own size


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """The input of a trunk: ``size`` (height, width) in pixels, ``mean`` and ``std`` in 0..255.

    The size (0, 0) means no resize: ``OWN_SIZE``. With ``shrink``, large JPEGs are decoded at a
    smaller scale, at least twice ``size``, which is several times faster.
    """

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    shrink: bool = False

    def __post_init__(self) -> None:
        if self.size != OWN_SIZE and min(self.size) < 1:
            raise UsageError(
                f"size {self.size}: give two positive numbers, or (0, 0) for no resize"
            )
        if not all(value > 0 for value in self.std):
            raise UsageError(f"std: every channel must be more than 0, not {self.std}")

    @property
    def shrink_to(self) -> tuple[int, int] | None:
        """The sufficient size (height, width) for ``decode``; ``None`` means full size."""
        if not self.shrink or self.size == OWN_SIZE:
            return None
        return 2 * self.size[0], 2 * self.size[1]


def prepare(pixels: Array, preprocessing: Preprocessing) -> Array:
    """Return (H, W, 3) uint8 RGB as (1, 3, h, w) float32 (x - mean) / std, contiguous.

    Computed in float32, first the subtraction, then the division.
    """
    require_pixels(pixels)
    height, width = preprocessing.size
    if preprocessing.size not in (OWN_SIZE, pixels.shape[:2]):
        image = Image.fromarray(np.ascontiguousarray(pixels))
        pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    mean, std = (
        np.asarray(channels, np.float32)[:, None, None]
        for channels in (preprocessing.mean, preprocessing.std)
    )
    planes = pixels.transpose(2, 0, 1)
    values: Array = np.empty((1, *planes.shape), np.float32)
    np.subtract(planes, mean, out=values[0], dtype=np.float32)
    np.divide(values, std, out=values)
    return values


def require_pixels(pixels: object) -> None:
    """Raise ``UsageError`` unless ``pixels`` are (H, W, 3) uint8 RGB with at least one pixel."""
    array = pixels if isinstance(pixels, np.ndarray) else None
    if array is None or array.dtype != np.uint8 or array.shape[2:] != (3,) or not array.size:
        given = f"{pixels!r:.60}" if array is None else f"{array.dtype} of shape {array.shape}"
        raise UsageError(f"pixels: {given}; give (height, width, 3) uint8 RGB")
