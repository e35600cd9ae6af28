"""The spatial score and the displacement votes of many candidates; see ``method`` for both.

A scorer gets the matches of n candidates and ``Pairs.best`` of all candidates, and returns the
scores (n,) and which matches (n, N) bool are inliers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor

from placerec.engine.homography import homographies
from placerec.engine.matching import Pairs
from placerec.method.displacement import (
    BACKGROUND_SHARE,
    DISTINCTNESS_POWER,
    SCALES,
    WHOLE,
)
from placerec.method.ransac import FEWEST_MATCHES
from placerec.records import Grid
from placerec.settings import AnySettings

Scorer = Callable[[Pairs, Tensor, AnySettings], tuple[Tensor, Tensor]]


def exact(values: Tensor) -> Tensor:
    """Return float64 numbers, or float32 on a device without them."""
    return values.to(_real(values.device))


def _real(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64


@cache
def _reach(grid: Grid, device: torch.device) -> Tensor:
    """Return ``Grid.reach`` as ``exact`` numbers on the device."""
    return torch.from_numpy(grid.reach).to(_real(device)).to(device)


@cache
def _zoomed(grid: Grid, device: torch.device) -> Tensor:
    """Return how far each scale moves each patch of a query from the middle: (S, P, 2)."""
    corners = grid.corners(np.arange(len(grid))) - grid.reach / 2
    moved = (np.array(SCALES)[:, None, None] - 1.0) * corners
    return torch.from_numpy(moved).to(_real(device)).to(device)


def spatial(pairs: Pairs, _: Tensor, settings: AnySettings) -> tuple[Tensor, Tensor]:
    """Return the rapid spatial score; ``method.spatial.spatial_score`` says what it is."""
    start, end = pairs.ends()
    steps, weight = exact(end - start), exact(pairs.matched)[..., None]
    count = weight.sum(dim=1).clamp(min=1.0)
    mean = (steps * weight).sum(dim=1) / count
    if settings.spatial_form == "program":
        reach = _reach(pairs.query, steps.device).expand_as(mean)
    elif settings.spatial_form == "paper":
        reach = torch.where(weight > 0, steps, -torch.inf).amax(dim=1).abs()
    else:
        reach = (steps.abs() * weight).amax(dim=1)
    deviation = reach[:, None] - (steps - mean[:, None]).abs()
    squares = torch.where(weight > 0, deviation.square(), 0.0)
    return squares.sum(dim=(1, 2)) / len(pairs.query), pairs.matched


def displacement(pairs: Pairs, best: Tensor, settings: AnySettings) -> tuple[Tensor, Tensor]:
    """Return the displacement votes; see ``method.displacement.displacement_scores``."""
    similarity = _background(pairs.best, best)
    ceiling = _votes(torch.ones_like(best), _background(best, best)).mean(dim=1).max()
    background = similarity.gather(1, pairs.query_patch)
    vote = _votes(exact(pairs.similarity).clamp(0.0, 1.0), background) * pairs.matched
    vote = torch.where(ceiling > 0, vote / ceiling, 0.0)
    grid = pairs.query
    zoom = _zoomed(grid, vote.device)[:, pairs.query_patch]  # (S, n, N, 2)
    start, end = pairs.ends()
    step = torch.floor(exact(end - start) - zoom + 0.5).long()
    reach = np.maximum(grid.reach, pairs.database.reach)
    peak, inside = _peak(step, vote, reach.tolist(), settings.box)
    patches = (len(pairs.database) - pairs.blank).clamp(max=len(grid)).clamp(min=1)
    return peak / patches, inside & pairs.matched & (vote > 0)


def ransac(pairs: Pairs, _: Tensor, settings: AnySettings) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    """Return the inliers of a homography over the query's patches; see ``homography``."""
    inliers = homographies(pairs)
    count = inliers.sum(dim=1)
    return exact(count) / len(pairs.query), inliers & (count >= FEWEST_MATCHES)[:, None]


SCORERS: dict[str, Scorer] = {
    "displacement": displacement, "spatial": spatial, "ransac": ransac,
}  # fmt: skip


def _background(own: Tensor, best: Tensor) -> Tensor:
    """Return the ``similarity`` (n, P) of ``method.displacement.Background``.

    ``own`` (n, P) are rows of ``best``, the similarities of the query patches to all candidates.
    """
    total = exact(best).sum(dim=0)
    return ((total - exact(own)) / max(len(best) - 1, 1)).clamp(0.0, 1.0)


def _votes(similarity: Tensor, background: Tensor) -> Tensor:
    """Return what ``method.displacement.votes`` does."""
    excess = (similarity - BACKGROUND_SHARE * background).clamp(min=0.0)
    return excess * (1.0 - background) ** DISTINCTNESS_POWER


def _peak(step: Tensor, vote: Tensor, reach: list[int], box: int) -> tuple[Tensor, Tensor]:
    """Return the best window's sum of votes (n,), and which matches (n, N) bool are in it.

    As in ``method.displacement``, the vote maps of all scales are rows of one map. ``step``
    (S, n, N, 2) holds the displacements at S scales, ``vote`` (n, N) is 0 without a match.
    """
    half, scales, count = box // 2, len(step), len(vote)
    width, height = (2 * (side + half) + 1 for side in reach)
    column, row = step.unbind(dim=3)
    within = (column.abs() <= reach[0]) & (row.abs() <= reach[1])
    number = torch.arange(scales, device=vote.device)[:, None, None]
    column, row = column + reach[0] + half, row + reach[1] + half + height * number
    cells = torch.where(within, row * width + column, 0).transpose(0, 1).reshape(count, -1)
    whole = (vote * WHOLE).round().long()
    weights = torch.where(within, whole, 0).transpose(0, 1).reshape(count, -1)
    sums = whole.new_zeros((count, scales * height * width)).scatter_add_(1, cells, weights)
    sums = _windows(sums.view(count, scales * height, width), box)
    peak, place = sums.flatten(start_dim=1).max(dim=1)  # the first of equal ones
    top = torch.div(place, sums.shape[2], rounding_mode="floor")[:, None]
    left = (place % sums.shape[2])[:, None]
    inside = (row >= top) & (row < top + box) & (column >= left) & (column < left + box)
    return exact(peak) / WHOLE, (inside & within).any(dim=0)


def _windows(values: Tensor, box: int) -> Tensor:
    """Return the sum over each box x box window of whole numbers (n, h, w): exact."""
    for axis in (1, 2):
        total = torch.nn.functional.pad(values.cumsum(axis), (1, 0) if axis == 2 else (0, 0, 1, 0))
        length = values.shape[axis] - box + 1
        values = total.narrow(axis, box, length) - total.narrow(axis, 0, length)
    return values
