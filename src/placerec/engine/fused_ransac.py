"""RANSAC homographies without their intermediate numbers: Triton kernels, for an NVIDIA GPU.

``homography.consensus`` has the method and the plain form. There each step writes its numbers for
all samples, matches and candidates, and the next step reads them. Here a sample stays in registers
until its votes are counted.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from placerec.engine import homography

SAMPLES_AT_ONCE, MATCHES_AT_ONCE = 256, 256  # of one program


def consensus(source: Tensor, target: Tensor, count: Tensor) -> Tensor:
    """Return what ``homography.consensus`` does, for tensors on the current GPU."""
    candidates, matches, _ = source.shape
    draws = homography.draws_on(source.device)
    source, target, count = source.contiguous(), target.contiguous(), count.int()
    data = draws, source, target, count, matches
    votes = count.new_empty((candidates, len(draws)))
    blocks = triton.cdiv(len(draws), SAMPLES_AT_ONCE), candidates
    _votes[blocks](
        *data, votes, len(draws), homography.TOLERANCE,
        screened=homography.SCREENED, samples=SAMPLES_AT_ONCE,
    )  # fmt: skip
    kept = homography.most_votes(votes)
    inliers = torch.empty_like(kept)
    inside = torch.zeros((candidates, matches), dtype=torch.bool, device=source.device)
    _inliers[kept.shape[1], candidates](
        *data, kept, inliers, inside, homography.TOLERANCE, at_once=MATCHES_AT_ONCE, write=False
    )  # fmt: skip
    best = kept.gather(1, inliers.argmax(dim=1, keepdim=True))  # the first of equal ones
    _inliers[1, candidates](
        *data, best, inliers, inside, homography.TOLERANCE, at_once=MATCHES_AT_ONCE, write=True
    )  # fmt: skip
    return inside


@triton.jit  # type: ignore[untyped-decorator]
def _votes(  # type: ignore[no-untyped-def]
    draws, source, target, count, matches, votes, drawn, tolerance,
    screened: tl.constexpr, samples: tl.constexpr,
):  # fmt: skip
    """Count how many of the screening matches agree with each sample; -1 if it is not usable."""
    candidate = tl.program_id(1).to(tl.int64)
    number = tl.program_id(0) * samples + tl.arange(0, samples)
    source += candidate * matches * 2
    target += candidate * matches * 2
    there = tl.load(count + candidate)
    is_sample = number < drawn
    a, b, c, d, e, f, g, h, i, usable = _homography(
        draws, tl.where(is_sample, number, 0), source, target, there
    )
    agreeing = tl.zeros([samples], tl.int32)
    for place in range(tl.minimum(screened, there)):
        match = place
        if there > screened:
            match = place * there // screened
        x, y = tl.load(source + 2 * match), tl.load(source + 2 * match + 1)
        u, v = tl.load(target + 2 * match), tl.load(target + 2 * match + 1)
        agreeing += _agrees(a, b, c, d, e, f, g, h, i, x, y, u, v, tolerance).to(tl.int32)
    agreeing = tl.where(usable, agreeing, -1)
    tl.store(votes + candidate * drawn + number, agreeing, mask=is_sample)


@triton.jit  # type: ignore[untyped-decorator]
def _inliers(  # type: ignore[no-untyped-def]
    draws, source, target, count, matches, kept, inliers, inside, tolerance,
    at_once: tl.constexpr, write: tl.constexpr,
):  # fmt: skip
    """Count the matches that agree with a kept sample; or write which ones do."""
    candidate = tl.program_id(1).to(tl.int64)
    place = candidate * tl.num_programs(0) + tl.program_id(0)
    source += candidate * matches * 2
    target += candidate * matches * 2
    there = tl.load(count + candidate)
    number = tl.load(kept + place)
    a, b, c, d, e, f, g, h, i, usable = _homography(draws, number, source, target, there)
    there = tl.where(usable, there, 0)
    total = 0
    for first in range(0, there, at_once):
        match = first + tl.arange(0, at_once)
        is_match = match < there
        x = tl.load(source + 2 * match, mask=is_match, other=0.0)
        y = tl.load(source + 2 * match + 1, mask=is_match, other=0.0)
        u = tl.load(target + 2 * match, mask=is_match, other=0.0)
        v = tl.load(target + 2 * match + 1, mask=is_match, other=0.0)
        agrees = _agrees(a, b, c, d, e, f, g, h, i, x, y, u, v, tolerance) & is_match
        if write:
            tl.store(inside + candidate * matches + match, agrees, mask=is_match)
        else:
            total += tl.sum(agrees.to(tl.int32), axis=0)
    if not write:
        tl.store(inliers + place, total)


@triton.jit
def _homography(draws, number, source, target, count):  # type: ignore[no-untyped-def]
    """Return the nine numbers of a sample's homography, and whether the sample is usable."""
    x1, y1, u1, v1 = _match(draws + 4 * number, source, target, count)
    x2, y2, u2, v2 = _match(draws + 4 * number + 1, source, target, count)
    x3, y3, u3, v3 = _match(draws + 4 * number + 2, source, target, count)
    x4, y4, u4, v4 = _match(draws + 4 * number + 3, source, target, count)
    one = _turn(x1, y1, x2, y2, x3, y3) * _turn(u1, v1, u2, v2, u3, v3)
    two = _turn(x2, y2, x3, y3, x4, y4) * _turn(u2, v2, u3, v3, u4, v4)
    three = _turn(x1, y1, x3, y3, x4, y4) * _turn(u1, v1, u3, v3, u4, v4)
    four = _turn(x1, y1, x2, y2, x4, y4) * _turn(u1, v1, u2, v2, u4, v4)
    least = tl.minimum(tl.minimum(one, two), tl.minimum(three, four))
    most = tl.maximum(tl.maximum(one, two), tl.maximum(three, four))
    usable = (least > 0) | (most < 0)
    px1, py1, pz1, before1 = _row(x2, y2, x3, y3, x4, y4)
    px2, py2, pz2, before2 = _row(x3, y3, x1, y1, x4, y4)
    px3, py3, pz3, before3 = _row(x1, y1, x2, y2, x4, y4)
    _, _, _, after1 = _row(u2, v2, u3, v3, u4, v4)
    _, _, _, after2 = _row(u3, v3, u1, v1, u4, v4)
    _, _, _, after3 = _row(u1, v1, u2, v2, u4, v4)
    s1 = after1 / tl.where(before1 == 0, 1.0, before1)
    s2 = after2 / tl.where(before2 == 0, 1.0, before2)
    s3 = after3 / tl.where(before3 == 0, 1.0, before3)
    a, b, c = _sum(u1 * s1, u2 * s2, u3 * s3, px1, py1, pz1, px2, py2, pz2, px3, py3, pz3)
    d, e, f = _sum(v1 * s1, v2 * s2, v3 * s3, px1, py1, pz1, px2, py2, pz2, px3, py3, pz3)
    g, h, i = _sum(s1, s2, s3, px1, py1, pz1, px2, py2, pz2, px3, py3, pz3)
    return a, b, c, d, e, f, g, h, i, usable


@triton.jit
def _match(draw, source, target, count):  # type: ignore[no-untyped-def]
    """Return the two positions of the match that a random number in 0..1 means."""
    match = tl.minimum((tl.load(draw) * count).to(tl.int32), count - 1)
    match = tl.maximum(match, 0)
    x, y = tl.load(source + 2 * match), tl.load(source + 2 * match + 1)
    return x, y, tl.load(target + 2 * match), tl.load(target + 2 * match + 1)


@triton.jit
def _turn(ax, ay, bx, by, cx, cy):  # type: ignore[no-untyped-def]
    return (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)


@triton.jit
def _row(ax, ay, bx, by, cx, cy):  # type: ignore[no-untyped-def]
    """Return the cross product of (a, 1) and (b, 1), and its product with (c, 1)."""
    x, y, z = ay - by, bx - ax, ax * by - ay * bx
    return x, y, z, x * cx + y * cy + z


@triton.jit
def _sum(p, q, r, ax, ay, az, bx, by, bz, cx, cy, cz):  # type: ignore[no-untyped-def]
    return p * ax + q * bx + r * cx, p * ay + q * by + r * cy, p * az + q * bz + r * cz


@triton.jit
def _agrees(a, b, c, d, e, f, g, h, i, x, y, u, v, tolerance):  # type: ignore[no-untyped-def]
    """Return whether a homography takes the position (x, y) to (u, v)."""
    w = g * x + h * y + i
    across, down = a * x + b * y + c - u * w, d * x + e * y + f - v * w
    return across * across + down * down <= tolerance * tolerance * w * w
