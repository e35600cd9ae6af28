"""The output of the frozen layers of VGG16 for each photo, cached on disk.

The frozen layers are nine tenths of the multiplications, and their output never changes. Each
photo runs alone through ONNX Runtime (PyTorch on a GPU), so its features have the same bits for any
batch and any number of threads. The name of a cache file contains the digest of the trunk, the
image size, and the sha256 of the photo (``trunks.map_cache``).
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from placerec.errors import UsageError
from placerec.files import file_sha256
from placerec.photos.decode import decode
from placerec.records import Array
from placerec.runtime import DEFAULT_RUNTIME, Runtime
from placerec.trunks import Trunk, feature_map
from placerec.trunks.external import OnnxTrunk, TorchTrunk
from placerec.trunks.map_cache import map_folder, read_map, write_map
from placerec.trunks.vgg16 import VGG16, vgg16_module, vgg16_onnx
from placerec.workers import map_in_order

FROZEN_LAYERS = 24  # up to and including the max-pooling after conv4_3
CELL = 16  # pixels per feature cell
CHANNELS = 512
NAME = "vgg16 to conv4"


class FrozenFeatures:
    """The frozen layers of ``trunk`` at one image size, with or without a cache on disk."""

    def __init__(
        self,
        trunk: VGG16,
        size: tuple[int, int],
        *,
        cached: bool = True,
        runtime: Runtime = DEFAULT_RUNTIME,
    ) -> None:
        self._size, self._threads = size, runtime.cores
        self.shape = (size[0] // CELL, size[1] // CELL, CHANNELS)
        self.folder = map_folder(trunk.sha256, size, "-frozen") if cached else None
        self._sha256 = cache(file_sha256)
        self._layers: Trunk
        if runtime.device.startswith("cuda"):
            module = vgg16_module(trunk.state)[:FROZEN_LAYERS]
            self._layers = TorchTrunk(module, name=NAME, runtime=runtime)
        else:
            data = vgg16_onnx(trunk.state, FROZEN_LAYERS)
            self._layers = OnnxTrunk(data, name=NAME, runtime=Runtime(threads=1))

    def batch(self, paths: Sequence[Path]) -> Array:
        """Return features (n, h, w, 512) float32, in the order of ``paths``."""
        return np.stack(list(map_in_order(self._features, paths, self._threads)))

    def check_space(self, photos: int) -> None:
        """Raise ``UsageError`` if the cached features of ``photos`` photos do not fit the disk."""
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        stored = sum(1 for _ in self.folder.glob("*.npy"))
        needed = max(photos - stored, 0) * int(np.prod(self.shape)) * 4
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise UsageError(
                f"{self.folder}: the frozen features of {photos} photos need "
                f"{needed / 1e9:.0f} GB more, and {free / 1e9:.0f} GB are free; turn off cached, "
                f"or set PLACEREC_CACHE to a folder on a larger disk"
            )

    def _features(self, path: Path) -> Array:
        file = None if self.folder is None else self.folder / f"{self._sha256(path)}.npy"
        stored = None if file is None else read_map(file)
        if stored is not None and stored.shape == self.shape:
            return stored
        features = feature_map(self._layers, decode(path).pixels, self._size)
        if file is not None:
            write_map(file, features)
        return features
