"""Mutual nearest neighbours of a query with many candidates at once; see ``method.matching``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Self

import numpy as np
import torch
from torch import Tensor

from placerec.device import fetch, send_numbers
from placerec.method.matching import Matched
from placerec.records import Array, Grid

CLOSE = 1e-5  # of two cosines
ALIGNED = 16  # bytes


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
class Shown:
    """The patches of n candidates of one grid, at one patch size.

    ``numbers`` (2, n) int64 on the device are the addresses of the ``descriptors``, and how many
    patches of each candidate are blank. ``aligned`` says whether each patch begins at an address
    that a GPU can copy from in one piece.
    """

    grid: Grid
    numbers: Tensor = field(repr=False)
    descriptors: Sequence[Tensor] = field(repr=False)
    aligned: bool

    @classmethod
    def of(cls, candidates: Sequence[PatchesThere]) -> Self:
        """Return the candidates together."""
        descriptors = [one.descriptors.contiguous() for one in candidates]
        addresses, first = [one.data_ptr() for one in descriptors], descriptors[0]
        row = first.shape[1] * first.element_size()
        aligned = not any(number % ALIGNED for number in (row, *addresses))
        numbers = send_numbers((addresses, [one.blank for one in candidates]), first.device)
        return cls(candidates[0].grid, numbers, descriptors, aligned)


Maxima = Callable[[Tensor, Shown], tuple[Tensor, Tensor, Tensor]]


@dataclass(frozen=True, slots=True)
class Pairs:
    """The mutual matches of a query with n candidates of one grid, at one patch size.

    ``partner`` (n, N) int64 is the query patch that each database patch matches, or -1. ``best``
    (n, P) float32 is the cosine of each query patch to its nearest database patch, matched or not.
    ``blank`` (n,) int64 is as in ``Matched``.
    """

    query: Grid
    database: Grid
    partner: Tensor = field(repr=False)
    best: Tensor = field(repr=False)
    blank: Tensor = field(repr=False)

    @property
    def matched(self) -> Tensor:
        """Which database patches have a match: (n, N) bool."""
        return self.partner >= 0

    @property
    def query_patch(self) -> Tensor:
        """As ``partner``, with 0 where there is no match, so that it may be an index."""
        return self.partner.clamp(min=0)

    @property
    def similarity(self) -> Tensor:
        """The cosine of each match (n, N) float32, or 0 where there is none."""
        return self.best.gather(1, self.query_patch) * self.matched

    def ends(self) -> tuple[Tensor, Tensor]:
        """Return the positions in cells of each match, in the query and in the database photo.

        (n, N, 2) and (N, 2) int64, x and y; of the query, that of patch 0 where there is no match.
        """
        device = self.partner.device
        return corners(self.query, device)[self.query_patch], corners(self.database, device)

    def on_host(self) -> list[Matched]:
        """Return the matches of each candidate as ``method`` has them."""
        pairs = split_pairs(coded([(self, self.matched)]))
        best, similarity, blank = fetch([self.best, self.similarity, self.blank])
        return [
            Matched(
                self.query, self.database, pairs[n], similarity[n][pairs[n][:, 1]], best[n], blank
            )
            for n, blank in enumerate(blank.tolist())
        ]


def mutual(query: PatchesThere, shown: Shown) -> Pairs:
    """Return the mutual matches of a query with candidates.

    Of equally near patches the one with the lowest number counts. A blank patch has no match.
    """
    grid, patches = shown.grid, len(query.grid)
    best, nearest, highest = maxima_on(query.descriptors.device)(query.descriptors, shown)
    reached = highest.gather(1, nearest)
    is_mutual = (best >= reached) & (best != 0)
    numbers = torch.arange(patches, device=nearest.device)
    partner = nearest.new_full((len(nearest), len(grid)), patches)
    lowest = torch.where(is_mutual, numbers, patches)
    partner.scatter_reduce_(1, nearest, lowest, "amin")
    partner = torch.where(partner == patches, -1, partner)
    return Pairs(query.grid, grid, partner, best, shown.numbers[1])


def maxima(query: Tensor, shown: Shown) -> tuple[Tensor, Tensor, Tensor]:
    """Return the maxima of the cosines of a query with n candidates.

    ``query`` (P, D) is float32 or float16, like the descriptors (N, D) of each candidate. The
    result is, for each query patch, the highest cosine (n, P) float32 and the database patch that
    has it (n, P) int64, the first of equal ones; and for each database patch the highest cosine
    (n, N) float32.
    """
    products = _products(query, torch.cat(list(shown.descriptors)))
    similarity = products.view(len(query), len(shown.descriptors), -1)
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
            query, *others = rows.to(kind).view(3, 100, -1).unbind()
            shown = Shown.of([PatchesThere(Grid((1, 1), 10, 10, 1), one) for one in others])
            both = zip(fused(query, shown), maxima(query, shown), strict=True)
            if not all(torch.allclose(one, other, atol=CLOSE) for one, other in both):
                return maxima
    except Exception:  # Triton raises many types
        return maxima
    return fused


def working_bytes(query: PatchesThere, candidate: PatchesThere) -> int:
    """Return the most bytes of the device that ``mutual`` needs for each candidate."""
    return candidate.nbytes + 4 * len(query.grid) * len(candidate.grid)


def coded(parts: Sequence[tuple[Pairs, Tensor]]) -> Tensor:
    """Return the matches that are ``inliers`` (n, N) bool, as ``Pairs.partner``, -1 elsewhere.

    Each part is the matches of some candidates and their inliers. The parts follow each other in
    the rows of the result (R, N) int64, which has as many columns as the largest grid.
    """
    widest = max(inliers.shape[1] for _, inliers in parts)
    rows = [
        torch.nn.functional.pad(
            torch.where(inliers, pairs.partner, -1), (0, widest - inliers.shape[1]), value=-1
        )
        for pairs, inliers in parts
    ]
    return torch.cat(rows)


def split_pairs(rows: Tensor) -> list[Array]:
    """Return the matches in each row of ``coded``: (M, 2) int64, on the host.

    A match is a query patch and a database patch. They are in ascending order of the latter.
    """
    is_match = rows >= 0
    row, patch = is_match.nonzero(as_tuple=True)
    matches, counts = fetch([torch.stack((rows[row, patch], patch), dim=1), is_match.sum(dim=1)])
    ends = np.cumsum(counts).tolist()
    return [matches[first:last].copy() for first, last in pairwise([0, *ends])]


@cache
def corners(grid: Grid, device: torch.device) -> Tensor:
    """Return the positions in cells of all patches of a grid, on the device: (N, 2) int64."""
    return torch.from_numpy(grid.corners(np.arange(len(grid)))).long().to(device)


def _products(query: Tensor, database: Tensor) -> Tensor:
    """Return the cosines (P, M) float32; float16 descriptors are multiplied exactly."""
    if query.dtype != torch.float16:
        return query @ database.T
    if query.is_cuda:
        return torch.mm(query, database.T, out_dtype=torch.float32)
    return query.float() @ database.float().T
