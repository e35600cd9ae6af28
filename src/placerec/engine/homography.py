"""RANSAC homographies of many candidates at once.

The problem is that of ``method.ransac``: the most matches that one homography from database to
query explains within 24 pixels. OpenCV draws other samples, so the inliers are not equal. Where a
fifth of the matches or more agree, their number is that of OpenCV within 6 %; where fewer agree,
both miss some (``tests/engine/test_homography.py``). The samples are the same in every call, so a
candidate's inliers depend on nothing but its own matches, and equal calls have equal results.

A sample is four matches. The first 2000 usable ones are screened by 64 matches that are spread over
the photo, and the inliers of the best 100 are counted.

Positions are whole numbers of cells, so float32 holds them, the determinants and the products of a
sample exactly. The homography of four matches has a closed form: if A maps the unit vectors and
their sum to the four database positions, and B to the four query positions, it is B A^-1. This is
the solution of the direct linear transform for four points, without a decomposition.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from placerec.engine.matching import Pairs
from placerec.method.ransac import CELL, FEWEST_MATCHES, TOLERANCE_PIXELS

SEED = 0
DRAWN, SAMPLES = 16_384, 2_000  # a sample whose corners lie in another order is not used
SCREENED, KEPT = 64, 100  # matches that screen the samples; samples whose inliers are counted
TOLERANCE = TOLERANCE_PIXELS / CELL  # cells
CORNERS = ((0, 1, 2), (1, 2, 3), (0, 2, 3), (0, 1, 3))
WORK_BYTES = 1 << 30


def homographies(pairs: Pairs) -> Tensor:
    """Return which matches (n, N) bool are inliers of the best homography of each candidate.

    Four matches are inliers, as OpenCV has it. Fewer have none, and neither have matches of which
    no four give a homography. Candidates are processed in blocks of about 1 GB.
    """
    most = int(pairs.matched.sum(dim=1).max())
    if most < FEWEST_MATCHES:
        return torch.zeros_like(pairs.matched)
    at_once = max(1, WORK_BYTES // (4 * (24 * DRAWN + 8 * SAMPLES * min(most, SCREENED))))
    start, end = pairs.ends()
    blocks = zip(torch.split(start, at_once), torch.split(pairs.matched, at_once), strict=True)
    return torch.cat([_inliers(query, end, matched, most) for query, matched in blocks])


def _inliers(query: Tensor, database: Tensor, matched: Tensor, most: int) -> Tensor:
    """Return the inliers (n, N) bool of candidates with at most ``most`` matches.

    ``query`` (n, N, 2) and ``database`` (N, 2) are positions in cells.
    """
    # The matches of each candidate come first, in the order of the database patches.
    order = torch.sort((~matched).byte(), dim=1, stable=True).indices[:, :most]
    count = matched.sum(dim=1)
    target = query.gather(1, order[..., None].expand(-1, -1, 2)).float()
    source = database[order].float()
    models, usable = _models(source, target, count)
    # Some matches of each candidate, spread over the photo, say which samples are worth counting.
    some = torch.arange(min(most, SCREENED), device=count.device).expand(len(count), -1)
    is_some = some < count[:, None]
    some = torch.where(count[:, None] > SCREENED, some * count[:, None] // SCREENED, some)
    screened = [_rows(positions, some) for positions in (source, target)]
    votes = (_agree(models, *screened) & is_some[:, None]).sum(dim=2)
    votes = torch.where(usable, votes, -1)
    kept = torch.sort(votes, dim=1, descending=True, stable=True).indices[:, :KEPT]
    models = _rows(models.flatten(2), kept).view(*kept.shape, 3, 3)
    is_match = torch.arange(most, device=count.device) < count[:, None]
    inside = _agree(models, source, target) & is_match[:, None]
    inside = inside & usable.gather(1, kept)[..., None]
    best = inside.sum(dim=2).argmax(dim=1)  # the first of equal ones
    chosen = inside.gather(1, best[:, None, None].expand(-1, -1, most))[:, 0]
    chosen = torch.where((count == FEWEST_MATCHES)[:, None], is_match, chosen)
    return torch.zeros_like(matched).scatter_(1, order, chosen)


def _agree(models: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Return whether homographies (n, S, 3, 3) take each source to its target: (n, S, M) bool."""
    homogeneous = _homogeneous(source).transpose(1, 2)
    projected = torch.bmm(models.flatten(1, 2), homogeneous)
    x, y, w = projected.view(*models.shape[:3], -1).unbind(dim=2)
    across, down = (target[:, None, :, axis] for axis in (0, 1))
    error = (x - across * w).square() + (y - down * w).square()
    return error <= (TOLERANCE * w).square()


def _models(source: Tensor, target: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Return homographies (n, S, 3, 3) of samples of four matches, and which are usable: (n, S).

    ``source`` and ``target`` (n, M, 2) are positions of matches, of which ``count`` (n,) exist. A
    sample is usable if no three of its positions lie on a line, and if all triples turn in the
    same sense in both photos, or all in the opposite one: a plane that is seen from its front.
    """
    draws = _draws(source.device)
    picks = torch.minimum(
        (draws * count[:, None, None]).long(), (count - 1).clamp(min=0)[:, None, None]
    )
    corners = [
        _rows(positions, picks.flatten(1)).view(*picks.shape, 2) for positions in (source, target)
    ]
    turns = torch.stack([_turn(corners[0], t) * _turn(corners[1], t) for t in CORNERS], dim=2)
    usable = (turns > 0).all(dim=2) | (turns < 0).all(dim=2)
    first = torch.sort((~usable).byte(), dim=1, stable=True).indices[:, :SAMPLES]
    usable = usable.gather(1, first)
    before, after = (
        _homogeneous(_rows(positions.flatten(2), first).view(*first.shape, 4, 2))
        for positions in corners
    )
    inverse, weights = _basis(before)
    _, wanted = _basis(after)
    scale = wanted / torch.where(weights == 0, 1.0, weights)
    return (after[:, :, :3] * scale[..., None]).transpose(2, 3) @ inverse, usable


def _basis(positions: Tensor) -> tuple[Tensor, Tensor]:
    """Return the inverse of the first three of four positions, and their weights in the fourth.

    The positions (..., 4, 3) are homogeneous. The inverse (..., 3, 3) and the weights (..., 3) lack
    one factor, the determinant.
    """
    one, two, three, four = positions.unbind(dim=-2)
    adjoint = torch.stack(
        [torch.linalg.cross(*pair) for pair in ((two, three), (three, one), (one, two))], dim=-2
    )
    return adjoint, (adjoint * four[..., None, :]).sum(dim=-1)


def _rows(values: Tensor, numbers: Tensor) -> Tensor:
    """Return the rows (n, S, C) of ``values`` (n, M, C) with these ``numbers`` (n, S)."""
    return values.gather(1, numbers[..., None].expand(-1, -1, values.shape[2]))


def _turn(corners: Tensor, triple: tuple[int, int, int]) -> Tensor:
    """Return twice the signed area (n, S) of three of the corners (n, S, 4, 2)."""
    one, two, three = (corners[:, :, number] for number in triple)
    (ax, ay), (bx, by) = ((end - one).unbind(dim=-1) for end in (two, three))
    return ax * by - ay * bx


def _homogeneous(positions: Tensor) -> Tensor:
    return torch.cat((positions, torch.ones_like(positions[..., :1])), dim=-1)


@cache
def _draws(device: torch.device) -> Tensor:
    """Return random numbers (DRAWN, 4) float32 in 0..1: which matches are a sample."""
    draws = np.random.default_rng(SEED).random((DRAWN, 4), np.float32)
    return torch.from_numpy(draws).to(device)
