"""A cache of feature maps on disk: the frozen layers give the same map of a photo every time.

The map (h, w, C) float32 of a photo is the file ``features/TRUNK-HxW/PHOTO.npy`` in the cache
folder. TRUNK is the first 16 digits of the weights' sha256, HxW the size to which photos are
resized, and PHOTO the sha256 of the photo file. A suffix after HxW names the layers if not all of
the trunk is used. So no map is used for another photo, trunk or size, and equal photos share one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from placerec.files import atomic_write, cache_folder
from placerec.records import Array


def map_folder(sha256: str, size: tuple[int, int], layers: str = "") -> Path:
    """Return the folder of the maps of a trunk at one image size."""
    return cache_folder() / "features" / f"{sha256[:16]}-{size[0]}x{size[1]}{layers}"


def stored_map(file: Path, compute: Callable[[], Array]) -> Array:
    """Return the map (h, w, C) in ``file``; compute and write it if it is missing or incomplete."""
    features = read_map(file)
    if features is None:
        features = compute()
        write_map(file, features)
    return features


def read_map(file: Path) -> Array | None:
    """Return the map (h, w, C) in ``file``, or ``None`` if it is missing or incomplete."""
    try:
        features: Array = np.load(file, allow_pickle=False)
    except (FileNotFoundError, ValueError, EOFError):
        return None
    return features if features.ndim == 3 and features.dtype == np.float32 else None


def write_map(file: Path, features: Array) -> None:
    """Write a map (h, w, C) as ``file``."""
    with atomic_write(file, durable=False) as partial, partial.open("wb") as stream:
        np.save(stream, np.ascontiguousarray(features, np.float32))
