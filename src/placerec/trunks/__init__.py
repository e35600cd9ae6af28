"""Trunks: pixels in, feature map out.

A trunk is a network up to its feature map (C, h, w). It publishes its channels, its stride in
pixels, its preprocessing, and the sha256 of its weights.

``efficientnet_lite`` ships in the package and runs on ONNX Runtime. ``vgg16`` is the trunk of the
paper. ``external`` runs any ONNX file or torch module. ``convert`` makes the weight file of VGG16.
``map_cache`` stores feature maps on disk. A new trunk is one file and one line in ``TRUNKS``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from placerec.errors import UsageError
from placerec.photos.prepare import Preprocessing, prepare
from placerec.records import Array
from placerec.runtime import DEFAULT_RUNTIME, Runtime
from placerec.trunks.efficientnet_lite import EfficientNetLite0
from placerec.trunks.vgg16 import VGG16


class Trunk(Protocol):
    """What every trunk offers. One that takes several images at once has ``at_once`` and ``maps``.

    One that may keep its maps on a GPU has ``maps_there``. ``NetworkTrunk`` in ``external`` says
    what they are.
    """

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
    return feature_maps(trunk, [prepare(pixels, trunk.preprocessing(size))])[0]


def feature_maps(trunk: Trunk, images: Sequence[Array]) -> list[Array]:
    """Return the feature maps (h, w, C) float32 of prepared images (1, 3, H, W) of one size.

    On a GPU the trunks of PyTorch take them all at once; every other trunk takes one by one.
    """
    if len(images) > 1 and getattr(trunk, "at_once", 1) > 1:
        maps = trunk.maps(np.concatenate(images))  # type: ignore[attr-defined]
    else:
        maps = [trunk(image) for image in images]
    return [channels_last(features, trunk.name) for features in maps]


def channels_last(features: Array, trunk: str) -> Array:
    """Return a feature map (C, h, w) of the trunk with this name as (h, w, C), if it is finite."""
    if not np.isfinite(features).all():
        raise not_finite(trunk)
    return np.ascontiguousarray(features.transpose(1, 2, 0))


def not_finite(trunk: str) -> UsageError:
    """Return the error for a feature map with a number that is not finite."""
    return UsageError(f"{trunk}: its feature map is not finite; check its weights")


TRUNKS: dict[str, Callable[[Runtime], Trunk]] = {
    "efficientnet-lite0": EfficientNetLite0,
    "vgg16": VGG16.from_cache,
}


def open_trunk(name: str, runtime: Runtime = DEFAULT_RUNTIME) -> Trunk:
    """Return the trunk called ``name``; raise ``UsageError`` if no trunk has that name."""
    if name not in TRUNKS:
        raise UsageError(f"trunk {name!r}: choose one of {', '.join(TRUNKS)}")
    return TRUNKS[name](runtime)
