"""RANSAC homographies of many candidates at once.

The problem is that of ``method.ransac``: the most matches that one homography from database to
query explains within 24 pixels. OpenCV draws other samples, so the inliers are not equal. Where a
fifth of the matches or more agree, their number is that of OpenCV within 6 %; where fewer agree,
both miss some (``tests/engine/test_homography.py``). The samples are the same in every call, so a
candidate's inliers depend on nothing but its own matches, and equal calls have equal results.

A sample is four matches. All usable ones of 8192 are screened by 64 matches that are spread over
the photo, and the inliers of the best 100 are counted.

Positions are whole numbers of cells, so float32 holds them, the determinants and the products of a
sample exactly. The homography of four matches has a closed form: if A maps the unit vectors and
their sum to the four database positions, and B to the four query positions, it is B A^-1. This is
the solution of the direct linear transform for four points, without a decomposition.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor

from placerec.engine.matching import Pairs
from placerec.method.ransac import CELL, FEWEST_MATCHES, TOLERANCE_PIXELS

SEED = 0
DRAWN = 8_192  # a sample whose corners lie in another order is not used
SCREENED, KEPT = 64, 100  # matches that screen the samples; samples whose inliers are counted
TOLERANCE = TOLERANCE_PIXELS / CELL  # cells
CORNERS = ((0, 1, 2), (1, 2, 3), (0, 2, 3), (0, 1, 3))
WORK_BYTES = 1 << 30


def homographies(pairs: Pairs) -> Tensor:
    """Return which matches (n, N) bool are inliers of the best homography of each candidate.

    Four matches are inliers, as OpenCV has it. Fewer have none, and neither have matches of which
    no four give a homography.
    """
    matched, count = pairs.matched, pairs.matched.sum(dim=1)
    start, end = pairs.ends()
    # The matches of each candidate come first, in the order of the database patches.
    patches = matched.shape[1]
    numbers = torch.arange(patches, device=matched.device).expand(matched.shape)
    rank = torch.where(matched, matched.cumsum(dim=1) - 1, patches)
    order = numbers.new_zeros((len(matched), patches + 1)).scatter_(1, rank, numbers)[:, :patches]
    find = consensus_on(matched.device)
    inside = find(end[order].float(), _rows(start, order).float(), count)
    is_match = numbers < count[:, None]
    inside = torch.where((count == FEWEST_MATCHES)[:, None], is_match, inside)
    return inside.gather(1, rank.clamp(max=patches - 1)) & matched


def consensus(source: Tensor, target: Tensor, count: Tensor) -> Tensor:
    """Return which matches (n, M) bool the best homography of each candidate explains.

    ``source`` and ``target`` (n, M, 2) float32 are the positions of matches in cells. The first
    ``count`` (n,) of a candidate exist. Candidates are processed in blocks of about 1 GB.
    """
    at_once = max(1, WORK_BYTES // (4 * DRAWN * (24 + 8 * min(source.shape[1], SCREENED))))
    blocks = range(0, len(source), at_once)
    rows = (slice(first, first + at_once) for first in blocks)
    return torch.cat([_consensus(source[n], target[n], count[n]) for n in rows])


def _consensus(source: Tensor, target: Tensor, count: Tensor) -> Tensor:
    draws = draws_on(source.device).expand(len(source), -1, -1)
    models, usable = _models(source, target, count, draws)
    # Some matches of each candidate, spread over the photo, say which samples are worth counting.
    some = torch.arange(min(source.shape[1], SCREENED), device=count.device).expand(len(count), -1)
    is_some = some < count[:, None]
    some = torch.where(count[:, None] > SCREENED, some * count[:, None] // SCREENED, some)
    screened = [_rows(positions, some) for positions in (source, target)]
    votes = (_agree(models, *screened) & is_some[:, None]).sum(dim=2)
    kept = most_votes(torch.where(usable, votes, -1))
    models = _rows(models.flatten(2), kept).view(*kept.shape, 3, 3)
    is_match = torch.arange(source.shape[1], device=count.device) < count[:, None]
    inside = _agree(models, source, target) & is_match[:, None]
    inside = inside & usable.gather(1, kept)[..., None]
    best = inside.sum(dim=2).argmax(dim=1)  # the first of equal ones
    return _rows(inside.flatten(2), best[:, None])[:, 0]


def most_votes(votes: Tensor) -> Tensor:
    """Return the samples (n, K) with the most of the ``votes`` (n, S); of equal ones the first."""
    last = votes.shape[1] - 1
    numbers = torch.arange(last, -1, -1, device=votes.device)
    keys = (votes * (last + 1) + numbers).topk(min(KEPT, last + 1), dim=1).values  # all differ
    return last - keys.remainder(last + 1)


@cache
def consensus_on(device: torch.device) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return ``consensus``, or on an NVIDIA GPU the kernels that do the same.

    They are used if they give the same for a drawn example; see ``matching.maxima_on``.
    """
    if device.type != "cuda":
        return consensus
    generator = torch.Generator().manual_seed(SEED)
    source, target = torch.randint(0, 30, (2, 2, 90, 2), generator=generator).float()
    target[:, ::2] = source[:, ::2] + 3
    example = source.to(device), target.to(device), torch.tensor((90, 70)).to(device)
    try:
        from placerec.engine.fused_ransac import consensus as fused

        return fused if torch.equal(fused(*example), consensus(*example)) else consensus
    except Exception:  # Triton raises many types
        return consensus


def _agree(models: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Return whether homographies (n, S, 3, 3) take each source to its target: (n, S, M) bool."""
    homogeneous = _homogeneous(source).transpose(1, 2)
    projected = torch.bmm(models.flatten(1, 2), homogeneous)
    x, y, w = projected.view(*models.shape[:3], -1).unbind(dim=2)
    across, down = (target[:, None, :, axis] for axis in (0, 1))
    error = (x - across * w).square() + (y - down * w).square()
    return error <= (TOLERANCE * w).square()


def _models(source: Tensor, target: Tensor, count: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
    """Return homographies (n, S, 3, 3) of samples of four matches, and which are usable: (n, S).

    ``draws`` (n, S, 4) in 0..1 say which matches are a sample. A sample is usable if no three of
    its positions lie on a line, and if all triples turn in the same sense in both photos, or all in
    the opposite one: a plane that is seen from its front.
    """
    last = (count - 1).clamp(min=0)[:, None, None]
    picks = torch.minimum((draws * count[:, None, None]).long(), last)
    corners = [
        _rows(positions, picks.flatten(1)).view(*picks.shape, 2) for positions in (source, target)
    ]
    turns = torch.stack([_turn(corners[0], t) * _turn(corners[1], t) for t in CORNERS], dim=2)
    usable = (turns > 0).all(dim=2) | (turns < 0).all(dim=2)
    before, after = map(_homogeneous, corners)
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
def draws_on(device: torch.device) -> Tensor:
    """Return random numbers (DRAWN, 4) float32 in 0..1: which matches are a sample."""
    draws = np.random.default_rng(SEED).random((DRAWN, 4), np.float32)
    return torch.from_numpy(draws).to(device)
