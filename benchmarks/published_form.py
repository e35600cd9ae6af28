"""The operations of the published Patch-NetVLAD program, written from its formulas.

They are what benchmarks/speed.py compares placerec with: PyTorch for all products, one candidate
after the other, one file per photo and patch size, OpenCV's homography. Only the network VGG16 is
that of the package. The weights are those of ImageNet, with a drawn vocabulary and PCA: the time
does not depend on the training.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from placerec.records import Array
from placerec.runtime import Runtime
from placerec.trunks.vgg16 import VGG16, vgg16_module

SIZES, WEIGHTS = (2, 5, 8), (0.45, 0.15, 0.4)
ROWS, COLUMNS, DEPTH, CLUSTERS = 30, 40, 512, 16
CELL, TOLERANCE = 16, 24.0
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def grid(size: int) -> tuple[int, int]:
    """Return rows and columns of the patches of ``size`` x ``size`` cells, with stride 1."""
    return ROWS - size + 1, COLUMNS - size + 1


class Describer:
    """A photo's global descriptor and its patch descriptors of three sizes, as published."""

    def __init__(self, dimensions: int, threads: int) -> None:
        draw = torch.Generator().manual_seed(0)
        self.module = vgg16_module(VGG16.from_cache(Runtime(threads=threads)).state)
        centres = functional.normalize(torch.randn(CLUSTERS, DEPTH, generator=draw))
        self.centres, self.assignment = 0.8 * centres, 30.0 * centres
        self.pca = torch.randn(dimensions, CLUSTERS * DEPTH, generator=draw)
        self.pca /= (CLUSTERS * DEPTH) ** 0.5

    def decode(self, path: Path) -> torch.Tensor:
        """Return the pixels as the network takes them: (1, 3, 480, 640)."""
        with Image.open(path) as image:
            pixels = image.convert("RGB").resize((640, 480), Image.Resampling.BILINEAR)
        scaled = torch.from_numpy(np.array(pixels)).permute(2, 0, 1).float() / 255.0
        mean, deviation = (torch.tensor(v)[:, None, None] for v in (MEAN, DEVIATION))
        return ((scaled - mean) / deviation)[None]

    def trunk(self, image: torch.Tensor) -> torch.Tensor:
        """Return the feature map (512, 30, 40)."""
        return self.module(image)[0]

    def describe(self, features: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the global descriptor (D,) and the patches of each size (P, D)."""
        unit = functional.normalize(features, dim=0)
        weights = torch.einsum("kd,dhw->khw", self.assignment, unit).softmax(dim=0)
        residuals = weights[:, None] * (unit[None] - self.centres[:, :, None, None])
        whole = self._reduced(residuals.sum(dim=(2, 3)).reshape(1, CLUSTERS, DEPTH))[0]
        sums = functional.pad(residuals.cumsum(dim=2).cumsum(dim=3), (1, 0, 1, 0))
        return whole, [self._patches(sums, size) for size in SIZES]

    def _patches(self, sums: torch.Tensor, size: int) -> torch.Tensor:
        rows, columns = grid(size)
        corners = [sums[:, :, y : y + rows, x : x + columns] for y in (0, size) for x in (0, size)]
        means = (corners[0] - corners[1] - corners[2] + corners[3]) / size**2
        return self._reduced(means.permute(2, 3, 0, 1).reshape(rows * columns, CLUSTERS, DEPTH))

    def _reduced(self, clusters: torch.Tensor) -> torch.Tensor:
        vlad = functional.normalize(functional.normalize(clusters, dim=2).flatten(1), dim=1)
        return functional.normalize(vlad @ self.pca.T, dim=1)


def nearest(query: torch.Tensor, database: torch.Tensor, count: int) -> Array:
    """Return the ``count`` rows of the database (N, D) with the smallest squared distance."""
    distances = (database**2).sum(dim=1) - 2.0 * (database @ query)
    return distances.topk(min(count, len(database)), largest=False).indices.numpy()


def mutual(query: torch.Tensor, database: torch.Tensor) -> Array:
    """Return the mutual nearest neighbours (M, 2): query patch, database patch."""
    distance = torch.sqrt(2.0 - 2.0 * (query @ database.T) + 1e-9)
    of_database, of_query = distance.argmin(dim=0), distance.argmin(dim=1)
    kept = torch.nonzero(of_query[of_database] == torch.arange(len(of_database)))[:, 0]
    return torch.stack((of_database[kept], kept), dim=1).numpy()


def centres(size: int) -> Array:
    """Return the pixel centres (P, 2), x then y, of the patches of one size."""
    row, column = np.divmod(np.arange(np.prod(grid(size))), grid(size)[1])
    return CELL * np.stack((column, row), axis=1) + CELL * (size - 1) // 2 + 7


def ransac(pairs: Array, size: int) -> float:
    """Return the share of the query's patches that one homography explains."""
    if len(pairs) < 4:
        return 0.0
    place = centres(size)
    source, target = place[pairs[:, 1]], place[pairs[:, 0]]
    mask = cv2.findHomography(source, target, cv2.RANSAC, TOLERANCE)[1]
    return 0.0 if mask is None else float(mask.sum()) / len(place)


def spatial(pairs: Array, size: int) -> float:
    """Return the rapid spatial score; larger is better."""
    if not len(pairs):
        return 0.0
    rows, columns = grid(size)
    place = np.stack(np.divmod(np.arange(rows * columns), columns)[::-1], axis=1)
    step = (place[pairs[:, 1]] - place[pairs[:, 0]]).astype(np.float64)
    reach = np.array((columns - 1, rows - 1)) - np.abs(step - step.mean(axis=0))
    return float((reach**2).sum()) / (rows * columns)


SCORE = {"ransac": ransac, "spatial": spatial}


def fused(scores: Array, weights: Sequence[float]) -> Array:
    """Return the final score (n,) from those of each size (n, S): weighted z-scores."""
    deviation = scores.std(axis=0)
    return (scores - scores.mean(axis=0)) / np.where(deviation, deviation, 1.0) @ np.array(weights)


def scored(
    query: Sequence[torch.Tensor], candidates: Sequence[Sequence[torch.Tensor]],
    sizes: Sequence[int], scorer: str,
) -> Array:  # fmt: skip
    """Return the scores of each candidate and size (n, S)."""
    return np.array(
        [
            [
                SCORE[scorer](mutual(*pair), size)
                for size, *pair in zip(sizes, query, one, strict=True)
            ]
            for one in candidates
        ]
    )
