"""A model that describes on a GPU, by PyTorch, several photos at a time.

Each step is that of ``method`` with the same name, for n feature maps at once. Sums are float32,
where ``method`` has float64 for the whole photo; so descriptors differ by rounding, and in their
last digits with the number of photos.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Self

import numpy as np
import torch
from torch import Tensor

from placerec.device import alone, fetch, open_device, send
from placerec.errors import UsageError
from placerec.method.local import band_weights
from placerec.method.patches import patch_grid
from placerec.method.pca import Projection
from placerec.method.vlad import NORM_FLOOR, Vocabulary
from placerec.models.model import Model
from placerec.records import Array, Features, Grid, PatchSet
from placerec.runtime import Runtime
from placerec.settings import AnySettings
from placerec.trunks import feature_maps, not_finite

WORK_BYTES = 1 << 30  # of the device: the residuals of the photos that are described at once


class Tensors:
    """Arrays of a model on a device; each is sent once."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._sent: dict[tuple[int, ...], tuple[Array, Tensor]] = {}

    def __call__(self, array: Array) -> Tensor:
        """Return the array as a float32 tensor on the device."""
        key = (array.__array_interface__["data"][0], *array.shape, *array.strides)
        if key not in self._sent:  # the array stays, so no other one gets its address
            tensor = torch.from_numpy(np.require(array, np.float32, ["C", "W"]))
            self._sent[key] = array, tensor.to(self.device)
        return self._sent[key][1]


@dataclass(frozen=True, slots=True)
class DeviceModel(Model):
    """A ``Model`` whose feature maps are described on a device (cpu, cuda, mps)."""

    tensors: Tensors = field(kw_only=True, repr=False, compare=False)
    precision: str = field(default="float32", kw_only=True, repr=False)

    @classmethod
    def of(cls, model: Model, runtime: Runtime) -> Self:
        """Return ``model`` on the device of ``runtime``."""
        parts = {part.name: getattr(model, part.name) for part in fields(Model)}
        tensors = Tensors(open_device(runtime.device))
        return cls(**parts, tensors=tensors, precision=runtime.precision)

    def describe_map(self, features: Array, stride: int | None = None) -> Features:
        """Return the Features of a feature map (h, w, C), as ``Model.describe_map`` does."""
        return self.describe_maps([features], stride)[0]

    def describe_maps(self, maps: Sequence[Array], stride: int | None = None) -> list[Features]:
        """Return the Features of feature maps (h, w, C) float32 of one shape."""
        settings, stride = self.settings, stride or self.settings.stride
        if settings.patch_sums != "direct":  # it only compares sums, on a CPU
            return [Model.describe_map(self, features, stride) for features in maps]
        if not maps:
            return []
        with alone(self.tensors.device, self.precision):
            return self._described(send(maps, self.tensors.device), stride)

    def describe_images(self, images: Sequence[Array], stride: int | None = None) -> list[Features]:
        """Return the Features of images; feature maps of PyTorch do not leave the device."""
        stride, there = stride or self.settings.stride, None
        if images and self.settings.patch_sums == "direct" and hasattr(self.trunk, "maps_there"):
            there = self.trunk.maps_there(images)
        if there is None:
            return self.describe_maps(feature_maps(self.trunk, images), stride)
        with alone(self.tensors.device, self.precision):
            if not there.isfinite().all():
                raise not_finite(self.trunk.name)
            maps = there.to(self.tensors.device).permute(0, 2, 3, 1).contiguous()
            return self._described(maps, stride)

    @torch.inference_mode()
    def _described(self, maps: Tensor, stride: int) -> list[Features]:
        """Return the Features of feature maps (n, h, w, C) on the device."""
        sets = self._patches(maps, stride)
        vectors, *patches = fetch([self._global(maps), *(rows for _, rows in sets)])
        grids = [grid for grid, _ in sets]
        return [
            Features(vector, tuple(map(PatchSet, grids, rows)))
            for vector, *rows in zip(vectors, *patches, strict=True)
        ]

    def _global(self, images: Tensor) -> Tensor:
        """Return the global descriptors (n, G) of feature maps (n, h, w, C)."""
        local = local_features(images, self.settings, self.fitted.local_projection, self.tensors)
        count, rows, columns, depth = local.shape
        bands = self.tensors(_bands(rows, columns, self.settings.bands))
        cells, vocabulary = local.view(count, -1, depth), self.fitted.vocabulary
        assignment = soft_assign(cells, vocabulary, self.tensors)
        centres, vectors = self.tensors(vocabulary.centres), []
        for weight in bands.T:
            weighted = assignment * weight[:, None]
            sums = weighted.transpose(1, 2) @ cells - weighted.sum(dim=1)[..., None] * centres
            vectors.append(normalise(sums).flatten(start_dim=1))
        descriptor = normalise(torch.cat(vectors, dim=1))
        if self.fitted.projection is None:
            return descriptor
        return normalise(project(descriptor, self.fitted.projection, self.tensors))

    def _patches(self, images: Tensor, stride: int) -> list[tuple[Grid, Tensor]]:
        """Return the patches (n, P, D) of each size of feature maps (n, h, w, C), and its grid."""
        settings, vocabulary = self.settings, self.fitted.patch_vocabulary
        shape = images.shape[1], images.shape[2]
        grids = [
            Grid(size, *patch_grid(shape, size, stride), stride) for size in settings.patch_sizes
        ]
        if not grids:
            return []
        if vocabulary is None:
            raise UsageError("this model has no patch descriptors: fit a model with patch_sizes")
        if len(vocabulary) > 1 or settings.form != "own":
            return self._patch_vlad(normalise(images), vocabulary, grids)
        cells = images - self.tensors(vocabulary.centres)[0]
        if self.fitted.patch_projection is not None:
            cells = project(cells, self.fitted.patch_projection, self.tensors)
        return [(grid, normalise(box_mean(cells, grid).flatten(1, 2))) for grid in grids]

    def _patch_vlad(
        self, unit: Tensor, vocabulary: Vocabulary, grids: list[Grid]
    ) -> list[tuple[Grid, Tensor]]:
        """Return what ``method.patches.patch_vlad`` does, for unit features (n, h, w, D)."""
        count, height, width, depth = unit.shape
        projection = self.fitted.patch_projection
        sizes: list[list[Tensor]] = [[] for _ in grids]
        at_once = max(1, WORK_BYTES // (4 * height * width * len(vocabulary) * depth))
        for first in range(0, count, at_once):
            some = unit[first : first + at_once]
            weights = soft_assign(some.view(len(some), -1, depth), vocabulary, self.tensors)
            residual = some[:, :, :, None] - self.tensors(vocabulary.centres)
            residual *= weights.view(len(some), height, width, -1, 1)
            for grid, rows in zip(grids, sizes, strict=True):
                means = box_mean(residual.flatten(3), grid)
                clusters = normalise(means.view(len(some), len(grid), -1, depth))
                vectors = normalise(clusters.flatten(2))
                if projection is not None:
                    vectors = normalise(project(vectors, projection, self.tensors))
                rows.append(vectors)
        return [(grid, torch.cat(rows)) for grid, rows in zip(grids, sizes, strict=True)]


_bands = cache(band_weights)  # one array for each shape, so that it is sent once


def normalise(rows: Tensor) -> Tensor:
    """Divide the last axis by its L2 length (floor 1e-12)."""
    length: Tensor = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    return rows / length.clamp(min=NORM_FLOOR)


def project(rows: Tensor, projection: Projection, tensors: Tensors) -> Tensor:
    """Project (..., D_in) to (..., D_out), without normalisation."""
    return rows @ tensors(projection.weight).T + tensors(projection.bias)


def soft_assign(cells: Tensor, vocabulary: Vocabulary, tensors: Tensors) -> Tensor:
    """Return the assignment (n, N, K) of unit features (n, N, D); rows sum to 1."""
    logits = cells @ tensors(vocabulary.weights).T
    if vocabulary.bias is not None:
        logits = logits + tensors(vocabulary.bias)
    return logits.softmax(dim=2)


def box_mean(maps: Tensor, grid: Grid) -> Tensor:
    """Return the mean over each window of (n, h, w, C): (n, rows, columns, C)."""
    mean, (height, width) = torch.nn.functional.avg_pool2d, grid.size
    columns = mean(maps.permute(0, 3, 1, 2), (height, 1), (grid.stride, 1))
    return mean(columns, (1, width), (1, grid.stride)).permute(0, 2, 3, 1)


def local_features(
    images: Tensor, settings: AnySettings, projection: Projection | None, tensors: Tensors
) -> Tensor:
    """Return the unit local features (n, h', w', D) of feature maps (n, h, w, C)."""
    unit = normalise(images)
    if (side := settings.pooling) > 1:
        rows, columns = (length - side + 1 for length in unit.shape[1:3])
        unit = normalise(box_mean(unit, Grid((side, side), rows, columns, 1)))
    if settings.image_centring:
        unit = unit - settings.image_centring * unit.mean(dim=(1, 2), keepdim=True)
    if projection is not None:
        unit = project(unit, projection, tensors)
    return normalise(unit)
