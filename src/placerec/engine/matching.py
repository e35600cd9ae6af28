"""Mutual nearest neighbours of a query with many candidates at once; see ``method.matching``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor

from placerec.method.matching import Matched
from placerec.records import Array, Grid

Maxima = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor, Tensor]]
CLOSE = 1e-5  # of two cosines


@dataclass(frozen=True, slots=True)
class PatchesThere:
    """The patch descriptors (P, D) of one photo at one size, on the device; some may be blank."""

    grid: Grid
    descriptors: Tensor = field(repr=False)
    blank: int = 0

    @property
    def nbytes(self) -> int:
        """The bytes of the descriptors."""
        return self.descriptors.numel() * self.descriptors.element_size()


@dataclass(frozen=True, slots=True)
class Pairs:
    """The mutual matches of a query with n candidates of one grid, at one patch size.

    ``partner`` (n, N) int64 is the query patch that each database patch matches, or -1, and
    ``similarity`` (n, N) float32 their cosine, or 0. ``best`` (n, P) float32 is the cosine of each
    query patch to its nearest database patch, matched or not. ``blank`` (n,) is as in ``Matched``.
    """

    query: Grid
    database: Grid
    partner: Tensor = field(repr=False)
    similarity: Tensor = field(repr=False)
    best: Tensor = field(repr=False)
    blank: tuple[int, ...]

    @property
    def matched(self) -> Tensor:
        """Which database patches have a match: (n, N) bool."""
        return self.partner >= 0

    @property
    def query_patch(self) -> Tensor:
        """As ``partner``, with 0 where there is no match, so that it may be an index."""
        return self.partner.clamp(min=0)

    def ends(self) -> tuple[Tensor, Tensor]:
        """Return the positions in cells of each match, in the query and in the database photo.

        (n, N, 2) and (N, 2) int64, x and y; of the query, that of patch 0 where there is no match.
        """
        return _corners(self.query, self.query_patch), _corners(
            self.database, torch.arange(len(self.database), device=self.partner.device)
        )

    def on_host(self) -> list[Matched]:
        """Return the matches of each candidate as ``method`` has them."""
        pairs = inlier_pairs(self, self.matched)
        best, similarity = self.best.cpu().numpy(), self.similarity.cpu().numpy()
        return [
            Matched(
                self.query, self.database, pairs[n], similarity[n][pairs[n][:, 1]], best[n], blank
            )
            for n, blank in enumerate(self.blank)
        ]


def mutual(query: PatchesThere, candidates: Sequence[PatchesThere]) -> Pairs:
    """Return the mutual matches of a query with candidates that have one grid.

    Of equally near patches the one with the lowest number counts. A blank patch has no match.
    """
    grid, count, patches = candidates[0].grid, len(candidates), len(query.grid)
    database = torch.cat([candidate.descriptors for candidate in candidates])
    find = maxima_on(query.descriptors.device)
    best, nearest, highest = find(query.descriptors, database, count)
    reached = highest.gather(1, nearest)
    is_mutual = (best >= reached) & (best != 0)
    numbers = torch.arange(patches, device=nearest.device)
    partner = nearest.new_full((count, len(grid)), patches)
    lowest = torch.where(is_mutual, numbers, patches)
    partner.scatter_reduce_(1, nearest, lowest, "amin")
    partner = torch.where(partner == patches, -1, partner)
    cosine = best.gather(1, partner.clamp(min=0)) * (partner >= 0)
    blank = tuple(candidate.blank for candidate in candidates)
    return Pairs(query.grid, grid, partner, cosine, best, blank)


def maxima(query: Tensor, database: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return what ``engine.fused.maxima`` does, on any device."""
    similarity = _products(query, database).view(len(query), count, -1)
    highest, nearest = similarity.max(dim=2)  # the first of equal ones
    return highest.T.contiguous(), nearest.T.contiguous(), similarity.amax(dim=0)


@cache
def maxima_on(device: torch.device) -> Maxima:
    """Return what finds the maxima on a device: ``maxima``, or on an NVIDIA GPU the fused kernel.

    PyTorch may come without Triton, and Triton may not fit the GPU. So the kernel is used if it
    finds on a drawn example what ``maxima`` finds.
    """
    if device.type != "cuda":
        return maxima
    rows = torch.randn((300, 40), generator=torch.Generator().manual_seed(0)).to(device)
    rows = torch.nn.functional.normalize(rows, dim=1)
    try:
        from placerec.engine.fused import maxima as fused

        for kind in (torch.float32, torch.float16):
            query, database = rows[:100].to(kind), rows[100:].to(kind)
            both = zip(fused(query, database, 2), maxima(query, database, 2), strict=True)
            if not all(torch.allclose(one, other, atol=CLOSE) for one, other in both):
                return maxima
    except Exception:  # Triton raises many types
        return maxima
    return fused


def working_bytes(query: PatchesThere, candidate: PatchesThere) -> int:
    """Return the bytes of the device that ``mutual`` needs for each candidate."""
    return candidate.nbytes + 4 * len(query.grid) * len(candidate.grid)


def inlier_pairs(pairs: Pairs, inliers: Tensor) -> list[Array]:
    """Return the matches that are ``inliers`` (n, N) bool, per candidate (M, 2) int64, on the host.

    A row is a query patch and a database patch, in ascending order of the latter.
    """
    candidate, database = inliers.nonzero(as_tuple=True)
    rows = torch.stack((candidate, pairs.partner[candidate, database], database), dim=1)
    host = rows.cpu().numpy()
    ends = host[:, 0].searchsorted(range(len(inliers) + 1))
    return [host[first:last, 1:] for first, last in pairwise(ends)]


def _products(query: Tensor, database: Tensor) -> Tensor:
    """Return the cosines (P, M) float32; float16 descriptors are multiplied exactly."""
    if query.dtype != torch.float16:
        return query @ database.T
    if query.is_cuda:
        return torch.mm(query, database.T, out_dtype=torch.float32)
    return query.float() @ database.float().T


def _corners(grid: Grid, numbers: Tensor) -> Tensor:
    """Return what ``Grid.corners`` does."""
    row = torch.div(numbers, grid.columns, rounding_mode="floor")
    return torch.stack((numbers - row * grid.columns, row), dim=-1) * grid.stride
