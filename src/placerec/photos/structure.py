"""Does a photo show anything?"""

from __future__ import annotations

import numpy as np
from PIL import Image

from placerec.records import Array

SIDE, LEAST_SPREAD = 32, 4.0


def has_structure(pixels: Array) -> bool:
    """Return False for a photo (H, W, 3) uint8 RGB that is black, white or has one colour."""
    small = Image.fromarray(pixels).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    return float(np.asarray(small, np.float32).std()) > LEAST_SPREAD
