"""Trunks: pixels in, feature map out.

A trunk is a network up to its feature map (C, h, w). It publishes what the rest must know: its
channels, its stride in pixels, how pixels are to be prepared, and the sha256 of its weights.
``efficientnet_lite`` ships in the package and runs on ONNX Runtime; ``vgg16`` is the paper's and
needs PyTorch; ``external`` takes any ONNX file or torch module; ``convert`` makes the weight files.
Adding a trunk is one file and one line in ``TRUNKS``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from placerec.errors import UsageError
from placerec.photos.prepare import Preprocessing, prepare
from placerec.records import Array


class Trunk(Protocol):
    """What every trunk offers."""

    name: str
    sha256: str
    channels: int
    stride: int

    def preprocessing(self, size: tuple[int, int]) -> Preprocessing:
        """How pixels become the input, at ``size`` (height, width)."""

    def __call__(self, image: Array) -> Array:
        """Feature map (C, h, w) float32 of one prepared image (1, 3, H, W) float32."""


def feature_map(trunk: Trunk, pixels: Array, size: tuple[int, int]) -> Array:
    """The feature map (h, w, C) float32 of a photo (H, W, 3) uint8 RGB, resized to ``size``."""
    image = prepare(pixels, trunk.preprocessing(size))
    features = np.ascontiguousarray(trunk(image).transpose(1, 2, 0))
    if not np.isfinite(features).all():
        raise UsageError(f"{trunk.name}: its feature map is not finite; check its weights")
    return features


def _efficientnet_lite0(threads: int, device: str) -> Trunk:
    from placerec.trunks.efficientnet_lite import EfficientNetLite0

    return EfficientNetLite0(threads, device)


def _vgg16(threads: int, device: str) -> Trunk:
    from placerec.trunks.vgg16 import VGG16

    return VGG16.from_cache(threads, device)


TRUNKS: dict[str, Callable[[int, str], Trunk]] = {
    "efficientnet-lite0": _efficientnet_lite0,
    "vgg16": _vgg16,
}


def open_trunk(name: str, threads: int = 1, device: str = "cpu") -> Trunk:
    """The trunk called ``name``, run with ``threads`` threads on ``device`` (cpu or cuda)."""
    if name not in TRUNKS:
        raise UsageError(f"trunk {name!r}: choose one of {', '.join(TRUNKS)}")
    return TRUNKS[name](threads, device)
