"""Photos from elsewhere, as feature maps of the default trunk: queries without an answer.

The file ships in the package. ``tools/make_foreign.py`` makes it from street photos, which are not
part of this project. A value is stored in 4 bits, between a low and a high value of its channel.
"""

from __future__ import annotations

import io
from importlib.resources import files

import numpy as np

from placerec.records import Array
from placerec.trunks import Trunk

FILE = "foreign.npz"
LEVELS = 15  # the largest value of 4 bits


def foreign_maps(trunk: Trunk, size: tuple[int, int]) -> Array | None:
    """Return the feature maps (n, h, w, C) float32 of photos from elsewhere.

    ``None`` if the file is for another trunk or another image ``size`` (height, width).
    """
    content = (files("placerec.models") / "weights" / FILE).read_bytes()
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        if str(stored["trunk_sha256"]) != trunk.sha256 or tuple(stored["image_size"]) != size:
            return None
        return unpack(stored["codes"], stored["low"], stored["high"])


def pack(maps: Array) -> dict[str, Array]:
    """Return feature maps (n, h, w, C), C even, as ``codes`` (n, h, w, C / 2) uint8 and limits."""
    values = maps.reshape(-1, maps.shape[-1])
    low, high = (np.quantile(values, share, axis=0).astype(np.float32) for share in (0.002, 0.998))
    codes = np.clip(np.round((maps - low) / (high - low) * LEVELS), 0, LEVELS).astype(np.uint8)
    return {"codes": codes[..., 0::2] << 4 | codes[..., 1::2], "low": low, "high": high}


def unpack(codes: Array, low: Array, high: Array) -> Array:
    """Return the feature maps (n, h, w, C) float32 that ``pack`` stored."""
    both = np.stack((codes >> 4, codes & LEVELS), axis=-1).reshape(*codes.shape[:-1], len(low))
    maps: Array = both.astype(np.float32) / LEVELS * (high - low) + low
    return maps
