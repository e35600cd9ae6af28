"""Small photos and a small trunk, so that an index is built in milliseconds; the state of a folder.

The trunk and the settings are real ones: any trunk can be given as ``model``.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from placerec import build_index
from placerec.index import IndexReader
from placerec.photos.prepare import Preprocessing
from placerec.settings import Settings

SIZE = (64, 96)
SETTINGS = Settings(
    image_size=SIZE, clusters=2, local_dim=0, bands=1, pooling=1, patch_sizes=((2, 2),), pca_dim=4
)


class MeanColours:
    """A trunk: the mean colours of 16 x 16 pixels, and their squares. It counts its photos."""

    name, sha256, channels, stride = "mean-colours", "c" * 64, 6, 16

    def __init__(self):
        self.photos = 0

    def preprocessing(self, size):
        return Preprocessing(size, (120.0,) * 3, (60.0,) * 3)

    def __call__(self, image):
        self.photos += 1
        _, _, height, width = image.shape
        cells = image[0].reshape(3, height // 16, 16, width // 16, 16).mean(axis=(2, 4))
        return np.concatenate((cells, cells**2)).astype(np.float32)


def pixels(seed: int) -> np.ndarray:
    """A photo of 8 x 12 coloured boxes: (64, 96, 3) uint8."""
    boxes = np.random.default_rng(seed).integers(0, 256, (8, 12, 3), np.uint8)
    return boxes.repeat(8, axis=0).repeat(8, axis=1)


def draw(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed)).save(path, "PNG")
    return path


def draw_folder(folder: Path, count: int) -> Path:
    for seed in range(count):
        draw(folder / f"{seed:03}.png", seed)
    return folder


def small_index(path: Path, folder: Path, **options) -> Path:
    build_index(path, folder, model=MeanColours(), settings=SETTINGS, **options)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def stored(path: Path) -> dict[str, str]:
    """The photos of an index: sha256 by name."""
    with IndexReader.open(path) as reader:
        return {entry.name: entry.sha256 for entry in reader.entries}


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def open_descriptors() -> int:
    gc.collect()  # what an earlier test has left
    return len(list(Path("/proc/self/fd").iterdir()))


@contextlib.contextmanager
def limited(kind: int, limit: int) -> Iterator[None]:
    """Lower a limit of this process inside the block."""
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)
