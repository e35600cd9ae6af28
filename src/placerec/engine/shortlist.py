"""A shortlist matched and scored on one device: ``method.scores`` for many candidates at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from placerec.device import alone, open_device, resident_bytes
from placerec.engine.matching import Pairs, PatchesThere, inlier_pairs, mutual, working_bytes
from placerec.engine.resident import Photo, Resident
from placerec.engine.scorers import SCORERS, Others, backgrounds
from placerec.method.matching import Matched
from placerec.method.scores import PatchSets, fused
from placerec.records import Array, Match, PatchSet
from placerec.settings import AnySettings

WORK_BYTES = 1 << 30  # of the device: similarities and descriptors of the candidates of one block


@dataclass(frozen=True, slots=True)
class Matching:
    """The matches of a query with its candidates, on the device.

    ``sizes`` has one tuple per patch size, with one entry per block of candidates.
    """

    sizes: tuple[tuple[Pairs, ...], ...] = field(repr=False)

    def on_host(self) -> list[tuple[Matched, ...]]:
        """Return what ``match_candidates`` does: one tuple per candidate, one entry per size."""
        sizes = [[one for pairs in blocks for one in pairs.on_host()] for blocks in self.sizes]
        return list(zip(*sizes, strict=True))


class Engine:
    """Matches and scores on ``device`` (cpu, cuda, mps); ``precision`` as in ``Runtime``.

    The results are those of ``match_candidates`` and ``score_matches`` up to rounding: with float32
    the similarities differ in their last digits, so a match may differ where two patches are
    equally near but for rounding. Descriptors of float16 are rounded to 11 bits, their products and
    sums are float32. RANSAC draws other samples than OpenCV (``homography``). Equal calls on one
    device give equal results. Raises ``UsageError`` if there is no such device.
    """

    def __init__(self, device: str, precision: str = "float32") -> None:
        self.device, self._precision = open_device(device), precision
        self._type = torch.float16 if precision == "float16" else torch.float32
        self._resident = Resident(resident_bytes(self.device))

    def put(self, patches: PatchSets) -> Photo:
        """Return the patches of a photo on the device."""
        return tuple(
            PatchesThere(one.grid, self._sent(one.descriptors), one.blank) for one in patches
        )

    def resident(
        self, rows: Sequence[int], read: Callable[[list[int]], Iterable[PatchSets]]
    ) -> Iterator[Photo]:
        """Yield the patches of photos by their ``rows``, on the device.

        ``read`` gives the patches of some rows, in their order. It is asked only for photos that
        are no longer there from an earlier call. A quarter of the GPU's memory is used for this.
        """
        return self._resident.of(rows, lambda missing: map(self.put, read(missing)))

    def forget(self) -> None:
        """Drop the patches that ``resident`` has left on the device."""
        self._resident.forget()

    def score(
        self, query: PatchSets, candidates: Iterable[Photo], settings: AnySettings,
        cosines: Array | None = None,
    ) -> tuple[Array, list[tuple[Match, ...]]]:  # fmt: skip
        """Return the fused scores (n,) float64 and the matches, as ``score_matches`` does.

        ``candidates`` (of ``put`` or ``resident``) are read in blocks of about 1 GB, so they may be
        more than the device can hold.
        """
        return self.verify(self.match(query, candidates), settings, cosines)

    def match(self, query: PatchSets, candidates: Iterable[Photo]) -> Matching:
        """Return the mutual matches of the query with each candidate, on the device."""
        with alone(self.device, self._precision), torch.inference_mode():
            asked = self.put(query)
            blocks = [
                [mutual(*size) for size in zip(asked, zip(*block, strict=True), strict=True)]
                for block in _blocks(asked, candidates)
            ]
        return Matching(tuple(zip(*blocks, strict=True)))

    def mutual_nearest(self, query: PatchSet, database: PatchSet) -> Matched:
        """Return what ``method.matching.mutual_nearest`` does."""
        ((matched,),) = self.match((query,), [self.put((database,))]).on_host()
        return matched

    def verify(
        self, matching: Matching, settings: AnySettings, cosines: Array | None = None
    ) -> tuple[Array, list[tuple[Match, ...]]]:
        """Return the fused scores (n,) float64 of the candidates, and their matches on the host."""
        if not matching.sizes:
            return np.zeros(0), []
        with alone(self.device, self._precision), torch.inference_mode():
            scored = [_scored(blocks, settings) for blocks in matching.sizes]
        scores = np.stack([column for column, _ in scored], axis=1)
        matches = zip(*(size for _, size in scored), strict=True)
        return fused(scores, settings, cosines), list(matches)

    def _sent(self, descriptors: Array) -> Tensor:
        # PyTorch takes no array that is read-only, as those of an exact index are.
        writable = np.require(descriptors, np.float32, ["C", "W"])
        return torch.from_numpy(writable).to(self.device).to(self._type)

    def wait(self) -> None:
        """Return when the device has done all its work; for timing."""
        if self.device.type != "cpu":
            getattr(torch, self.device.type).synchronize()


def _blocks(query: Photo, candidates: Iterable[Photo]) -> Iterator[list[Photo]]:
    """Yield the candidates in blocks of equal grids, each of at most ``WORK_BYTES``."""
    block: list[Photo] = []
    for candidate in candidates:
        pairs = zip(query, candidate, strict=True)
        most = max(1, WORK_BYTES // max(1, *(working_bytes(*pair) for pair in pairs)))
        same = block and all(a.grid == b.grid for a, b in zip(block[0], candidate, strict=True))
        if block and (not same or len(block) >= most):
            yield block
            block = []
        block.append(candidate)
    if block:
        yield block


def _scored(blocks: Sequence[Pairs], settings: AnySettings) -> tuple[Array, list[Match]]:
    """Return the scores (n,) float64 of one patch size, and the match of each candidate."""
    everything = backgrounds(torch.cat([pairs.best for pairs in blocks]))
    parts = torch.split(everything.similarity, [len(pairs.best) for pairs in blocks])
    results = [
        SCORERS[settings.scorer](pairs, Others(similarity, everything.ceiling), settings)
        for pairs, similarity in zip(blocks, parts, strict=True)
    ]
    scores = torch.cat([score for score, _ in results]).cpu().numpy().astype(np.float64)
    matches = [
        (pairs, rows)
        for pairs, (_, inliers) in zip(blocks, results, strict=True)
        for rows in inlier_pairs(pairs, inliers)
    ]
    return scores, [
        Match(score, rows, pairs.query, pairs.database)
        for score, (pairs, rows) in zip(scores.tolist(), matches, strict=True)
    ]
