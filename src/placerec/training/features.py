"""Photos to what leaves the frozen layers of VGG16, kept on disk, because it never changes.

The frozen part is nine tenths of the multiplications and would run again at every renewal of the
mining cache. A photo runs alone through ONNX Runtime (on a GPU, PyTorch), so its features have the
same bits whatever the batch or the threads. A file is named by the trunk, the image size and the
sha256 of the photo, so it can never be mistaken for another.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from placerec.errors import UsageError
from placerec.files import file_sha256
from placerec.photos.decode import decode
from placerec.photos.prepare import prepare
from placerec.records import Array
from placerec.runtime import Runtime
from placerec.trunks.external import OnnxTrunk, TorchTrunk
from placerec.trunks.map_cache import map_folder, read_map, write_map
from placerec.trunks.vgg16 import VGG16, vgg16_module, vgg16_onnx
from placerec.workers import map_in_order

FROZEN_LAYERS = 24  # up to and with the max-pooling behind conv4_3
CELL = 16  # pixels of a photo that are one cell of the features
CHANNELS = 512


class FrozenFeatures:
    """The frozen layers of ``trunk`` at one image size, with or without files on disk."""

    def __init__(
        self,
        trunk: VGG16,
        size: tuple[int, int],
        *,
        cached: bool = True,
        threads: int = 1,
        device: str = "cpu",
    ) -> None:
        self._preprocessing, self._threads = trunk.preprocessing(size), threads
        self.shape = (size[0] // CELL, size[1] // CELL, CHANNELS)
        self.folder = map_folder(trunk.sha256, size, "-frozen") if cached else None
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
        self._digests: dict[Path, str] = {}
        self._layers: OnnxTrunk | TorchTrunk
        if device.startswith("cuda"):
            module = vgg16_module(trunk.state)[:FROZEN_LAYERS]
            self._layers = TorchTrunk(
                module, name="vgg16 to conv4", runtime=Runtime(threads=threads, device=device)
            )
        else:
            data = vgg16_onnx(trunk.state, FROZEN_LAYERS)
            self._layers = OnnxTrunk(data, name="vgg16 to conv4", runtime=Runtime(threads=1))

    def batch(self, paths: Sequence[Path]) -> Array:
        """Features (n, h, w, 512) float32, in the order of ``paths``."""
        return np.stack(list(map_in_order(self._one, paths, self._threads)))

    def check_room(self, photos: int) -> None:
        """Refuse a cache that cannot fit the disk: ``photos`` at 4 bytes a value."""
        if self.folder is None:
            return
        there = sum(1 for _ in self.folder.glob("*.npy"))
        needed = max(photos - there, 0) * int(np.prod(self.shape)) * 4
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise UsageError(
                f"{self.folder}: the frozen features of {photos} photos need "
                f"{needed / 1e9:.0f} GB more, {free / 1e9:.0f} GB are free; use --no-cache, or "
                f"point PLACEREC_CACHE to a larger disk"
            )

    def _one(self, path: Path) -> Array:
        if self.folder is None:
            return self._compute(decode(path).pixels)
        known = self._digests.get(path)
        if known is None:
            known = self._digests[path] = file_sha256(path)
        file = self.folder / f"{known}.npy"
        kept = read_map(file)
        if kept is None or kept.shape != self.shape:
            kept = self._compute(decode(path).pixels)
            write_map(file, kept)
        return kept

    def _compute(self, pixels: Array) -> Array:
        features = self._layers(prepare(pixels, self._preprocessing))
        return np.ascontiguousarray(features.transpose(1, 2, 0))
