"""A shortlist matched and scored on one device: ``method.scores`` for many candidates at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from placerec.device import alone, fetch, open_device, resident_bytes, send
from placerec.engine.matching import (
    Pairs,
    PatchesThere,
    Shown,
    coded,
    mutual,
    split_pairs,
    working_bytes,
)
from placerec.engine.recorded import Recordings, Sizes, can_record
from placerec.engine.resident import Photo, Resident
from placerec.engine.scorers import SCORERS
from placerec.method.matching import Matched
from placerec.method.scores import PatchSets, fused
from placerec.records import Array, Grid, Match, PatchSet
from placerec.settings import AnySettings

WORK_BYTES = 1 << 30  # at least: similarities and descriptors of the candidates of one block


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


@dataclass(frozen=True, slots=True)
class Scored:
    """The ``scores`` (S, n) of n candidates at S sizes, and what ``coded`` gives of their inliers.

    ``grids`` (S * n) are those of the query and of the candidate, in the order of the rows.
    """

    scores: Tensor = field(repr=False)
    inliers: Tensor = field(repr=False)
    grids: list[tuple[Grid, Grid]] = field(repr=False)


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
        here = resident_bytes(self.device)
        self._resident = Resident(here)
        self._work_bytes = max(WORK_BYTES, here // 2) if self.device.type == "cuda" else WORK_BYTES
        self._recordings = Recordings[Scored]()

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

        ``candidates`` (of ``put`` or ``resident``) are read in blocks of about 1 GB, or an eighth
        of a GPU's memory, so they may be more than the device can hold. On an NVIDIA GPU a
        shortlist of one block with the shape of an earlier one runs from a recording.
        """
        with alone(self.device, self._precision), torch.inference_mode():
            blocks = _blocks(self._asked(query), candidates, self._work_bytes)
            first = list(islice(blocks, 2))
            if len(first) != 1 or not can_record(first[0]):
                return _verified(_matched(_drained(first, blocks)), settings, cosines)

            def work(sizes: Sizes) -> Scored:
                return _scored(_matched([sizes]), settings)

            return _on_host(self._recordings.run(settings, first[0], work), settings, cosines)

    def match(self, query: PatchSets, candidates: Iterable[Photo]) -> Matching:
        """Return the mutual matches of the query with each candidate, on the device."""
        with alone(self.device, self._precision), torch.inference_mode():
            return _matched(_blocks(self._asked(query), candidates, self._work_bytes))

    def mutual_nearest(self, query: PatchSet, database: PatchSet) -> Matched:
        """Return what ``method.matching.mutual_nearest`` does."""
        ((matched,),) = self.match((query,), [self.put((database,))]).on_host()
        return matched

    def verify(
        self, matching: Matching, settings: AnySettings, cosines: Array | None = None
    ) -> tuple[Array, list[tuple[Match, ...]]]:
        """Return the fused scores (n,) float64 of the candidates, and their matches on the host."""
        with alone(self.device, self._precision), torch.inference_mode():
            return _verified(matching, settings, cosines)

    def _asked(self, query: PatchSets) -> Photo:
        return tuple(PatchesThere(one.grid, self._sent(one.descriptors)) for one in query)

    def _sent(self, descriptors: Array) -> Tensor:
        return send([descriptors], self.device)[0].to(self._type)

    def wait(self) -> None:
        """Return when the device has done all its work; for timing."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()


def _blocks(query: Photo, candidates: Iterable[Photo], room: int) -> Iterator[Sizes]:
    """Yield the query with some candidates of equal grids; they need at most ``room`` bytes."""
    block: list[Photo] = []
    grids: list[Grid] = []
    most = 0
    for candidate in candidates:
        shown = [one.grid for one in candidate]
        if block and (shown != grids or len(block) >= most):
            yield _sizes(query, block)
            block = []
        if not block:
            pairs, grids = zip(query, candidate, strict=True), shown
            most = max(1, room // max(1, *(working_bytes(*pair) for pair in pairs)))
        block.append(candidate)
    if block:
        yield _sizes(query, block)


def _drained(first: list[Sizes], rest: Iterator[Sizes]) -> Iterator[Sizes]:
    """Yield both in turn; none is kept here."""
    while first:
        yield first.pop(0)
    yield from rest


def _sizes(query: Photo, block: Sequence[Photo]) -> Sizes:
    return list(zip(query, map(Shown.of, zip(*block, strict=True)), strict=True))


def _matched(blocks: Iterable[Sizes]) -> Matching:
    pairs = [[mutual(*size) for size in block] for block in blocks]
    return Matching(tuple(zip(*pairs, strict=True)))


def _verified(
    matching: Matching, settings: AnySettings, cosines: Array | None
) -> tuple[Array, list[tuple[Match, ...]]]:
    if not matching.sizes:
        return np.zeros(0), []
    return _on_host(_scored(matching, settings), settings, cosines)


def _scored(matching: Matching, settings: AnySettings) -> Scored:
    """Return the scores of all candidates and their inliers, on the device."""
    scores, parts = [], []
    for blocks in matching.sizes:
        best = torch.cat([pairs.best for pairs in blocks])
        results = [SCORERS[settings.scorer](pairs, best, settings) for pairs in blocks]
        scores.append(torch.cat([score for score, _ in results]))
        parts += [(pairs, inliers) for pairs, (_, inliers) in zip(blocks, results, strict=True)]
    grids = [(pairs.query, pairs.database) for pairs, inliers in parts for _ in inliers]
    return Scored(torch.stack(scores), coded(parts), grids)


def _on_host(
    scored: Scored, settings: AnySettings, cosines: Array | None
) -> tuple[Array, list[tuple[Match, ...]]]:
    """Return the fused scores (n,) float64 of the candidates, and their matches."""
    pairs, (scores,) = split_pairs(scored.inliers), fetch([scored.scores])
    matches = list(map(Match, scores.flatten().tolist(), pairs, *zip(*scored.grids, strict=True)))
    count = scores.shape[1]
    sizes = (matches[first : first + count] for first in range(0, len(matches), count))
    return fused(scores.T.astype(np.float64), settings, cosines), list(zip(*sizes, strict=True))
