"""Feature maps kept on disk: what frozen layers make of a photo never changes.

The map (h, w, C) float32 of a photo lies at ``features/TRUNK-HxW/PHOTO.npy`` below the cache
folder: TRUNK the first 16 digits of the weights' sha256 (and which layers, where not all), HxW the
size that photos are resized to, PHOTO the sha256 of its file. So no map can be mistaken for
another, and equal photos share one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from placerec.files import atomic_write, cache_folder
from placerec.records import Array


def map_folder(sha256: str, size: tuple[int, int], layers: str = "") -> Path:
    """The folder of the maps of a trunk at one image size."""
    return cache_folder() / "features" / f"{sha256[:16]}-{size[0]}x{size[1]}{layers}"


def read_map(file: Path) -> Array | None:
    """The map in ``file``; ``None`` where it is not there, or not whole: make it (again)."""
    try:
        kept: Array = np.load(file, allow_pickle=False)
    except (FileNotFoundError, ValueError, EOFError):
        return None
    return kept if kept.ndim == 3 and kept.dtype == np.float32 else None


def write_map(file: Path, features: Array) -> None:
    """Keep a map (h, w, C)."""
    with atomic_write(file, durable=False) as partial, partial.open("wb") as stream:
        np.save(stream, np.ascontiguousarray(features, np.float32))
