"""Trunks: pixels in, feature map out.

A trunk is a network up to its feature map (C, h, w). It publishes its channels, its stride in
pixels, its preprocessing, and the sha256 of its weights.

``efficientnet_lite`` ships in the package and runs on ONNX Runtime. ``vgg16`` is the trunk of the
paper. ``external`` runs any ONNX file or torch module. ``convert`` makes the weight file of VGG16.
``map_cache`` stores feature maps on disk. A new trunk is one file and one line in ``TRUNKS``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from placerec.errors import UsageError
from placerec.photos.prepare import Preprocessing, prepare
from placerec.records import Array
from placerec.runtime import DEFAULT_RUNTIME, Runtime


class Trunk(Protocol):
    """What every trunk offers."""

    name: str
    sha256: str
    channels: int
    stride: int

    def preprocessing(self, size: tuple[int, int]) -> Preprocessing:
        """Return how pixels become the input, at ``size`` (height, width)."""

    def __call__(self, image: Array) -> Array:
        """Return the feature map (C, h, w) float32 of an image (1, 3, H, W) float32."""


def feature_map(trunk: Trunk, pixels: Array, size: tuple[int, int]) -> Array:
    """Return the feature map (h, w, C) float32 of a photo (H, W, 3) uint8 RGB at ``size``."""
    image = prepare(pixels, trunk.preprocessing(size))
    features = np.ascontiguousarray(trunk(image).transpose(1, 2, 0))
    if not np.isfinite(features).all():
        raise UsageError(f"{trunk.name}: its feature map is not finite; check its weights")
    return features


def _efficientnet_lite0(runtime: Runtime) -> Trunk:
    from placerec.trunks.efficientnet_lite import EfficientNetLite0

    return EfficientNetLite0(runtime)


def _vgg16(runtime: Runtime) -> Trunk:
    from placerec.trunks.vgg16 import VGG16

    return VGG16.from_cache(runtime)


TRUNKS: dict[str, Callable[[Runtime], Trunk]] = {
    "efficientnet-lite0": _efficientnet_lite0,
    "vgg16": _vgg16,
}


def open_trunk(name: str, runtime: Runtime = DEFAULT_RUNTIME) -> Trunk:
    """Return the trunk called ``name``; raise ``UsageError`` if no trunk has that name."""
    if name not in TRUNKS:
        raise UsageError(f"trunk {name!r}: choose one of {', '.join(TRUNKS)}")
    return TRUNKS[name](runtime)
