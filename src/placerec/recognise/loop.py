"""Loop closure: is this frame of a stream at a place of an earlier frame?

from placerec import LoopDetector
detector = LoopDetector(skip_seconds=30)
for seconds, pixels in camera:
    for loop in detector.add(pixels, seconds):
        if loop.accepted:
            print(loop.frame, loop.earlier, loop.confidence)

Everything is in memory. A frame is described, ranked and scored as a query of an index is, against
all earlier frames except the last seconds, and then stored as a photo of an index is.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from placerec.errors import UsageError
from placerec.index import codec
from placerec.index.calibrate import FEWEST_PHOTOS, no_confidence
from placerec.index.packing import pack
from placerec.index.presets import SMALL
from placerec.index.reader import StoredPatches
from placerec.index.vectors import Vectors
from placerec.method.confidence import Calibration, evidence
from placerec.method.ranking import best_first
from placerec.method.scores import match_candidates, score_matches
from placerec.models.model import patch_set
from placerec.models.resolve import AUTO
from placerec.photos.pixels import AnyPhoto, photo_of
from placerec.photos.structure import has_structure
from placerec.recognise.pair import pair_model
from placerec.records import Array, Features, Match
from placerec.runtime import DEFAULT_RUNTIME, Runtime, require_runtime
from placerec.settings import require, require_number, require_whole
from placerec.trunks import Trunk
from placerec.workers import single_threaded_blas

SKIP_SECONDS = 30.0  # the last frames show the place that the camera is at
SURE = 0.8  # the least confidence of an accepted loop
STEADY = 4  # frames before that must lead to the same stretch of the way
NEAR_SECONDS = 5.0  # frames that are not further apart in time show one place
BLOCK = 256  # frames whose global descriptors are compared at a time
MEMORY = Path("frames in memory")  # in place of the path of an index


@dataclass(frozen=True, slots=True, eq=False)
class Loop:
    """A frame and an earlier frame that may show one place.

    ``frame`` and ``earlier`` count the calls of ``add`` from 0, ``seconds`` and ``earlier_seconds``
    are their times. ``confidence`` (0..1) is how probable it is that both show one place.
    ``accepted``: it is enough, and the frames just before led to the same stretch. ``score`` and
    ``global_score`` are those of a ``Place``; ``matches`` has the patches that agree, one ``Match``
    per patch size.
    """

    frame: int
    earlier: int
    seconds: float
    earlier_seconds: float
    confidence: float
    accepted: bool
    score: float
    global_score: float
    matches: tuple[Match, ...] = field(default=(), repr=False)


@dataclass(slots=True)
class _Frame:
    """A stored frame; ``home`` is when its place was seen first, in seconds."""

    number: int
    seconds: float
    home: float
    patches: StoredPatches = field(repr=False)


class LoopDetector:
    """Says of each frame of a stream at which earlier frames' place it is.

    ``skip_seconds``: frames that are not older are no answer. A loop is accepted if its confidence
    is ``sure`` (0..1) or more, and if the best answers of the last four frames lie at most
    1 + 2 t seconds from it on the way, where t is the time since. So one frame alone closes no
    loop: it may look like another place by chance.

    There is no loop before 20 frames are old enough: the confidence rests on the other candidates.
    A frame takes about 7 kB of memory, as in an index of the preset ``default``. ``model`` is that
    of ``match_photos``, or a file that ``save_model`` wrote; it must have the default settings. One
    thread at a time may use a detector.
    """

    def __init__(
        self,
        skip_seconds: float = SKIP_SECONDS,
        sure: float = SURE,
        *,
        model: str | Trunk = AUTO,
        runtime: Runtime = DEFAULT_RUNTIME,
    ) -> None:
        require_runtime(runtime)
        self.skip_seconds = require_number("skip_seconds", skip_seconds)
        require(self.skip_seconds >= 0.0, "skip_seconds", f"at least 0, not {skip_seconds:g}")
        self.sure = require_number("sure", sure)
        require(0.0 < self.sure < 1.0, "sure", f"between 0 and 1, not {sure:g}")
        self.model, self._threads = pair_model(model, None, runtime), runtime.cores
        if reason := no_confidence(self.model.settings):
            raise UsageError(f"model {self.model.name}: a loop needs a confidence, and {reason}")
        self._frames: list[_Frame] = []
        self._blocks: list[Vectors] = []  # global descriptors
        self._before: deque[tuple[float, float]] = deque(maxlen=STEADY)  # times: frame, best answer
        self._count, self._last = 0, -math.inf

    def __len__(self) -> int:
        """The number of frames so far."""
        return self._count

    @property
    def stored_bytes(self) -> int:
        """How many bytes the descriptors of the frames so far have."""
        rows = sum(block.stored[0].nbytes for block in self._blocks[:1]) * len(self._frames)
        return int(rows + sum(len(b) for frame in self._frames for b in frame.patches.blobs))

    def describe(self, photo: AnyPhoto, *, bgr: bool = False) -> Features:
        """Return the descriptors of a photo as a query; ``photo`` and ``bgr`` as in ``add``."""
        pixels = photo_of(photo, bgr=bgr, shrink_to=self.model.shrink_to).pixels
        with single_threaded_blas():
            return self.model.describe(pixels, stride=1)

    def add(
        self, photo: AnyPhoto, seconds: float, *, bgr: bool = False, top: int = 3
    ) -> tuple[Loop, ...]:
        """Return the ``top`` earlier frames most similar to a new one, best first, and store it.

        ``photo`` is a photo in any form, as in ``PlaceRecognizer.query``; with ``bgr`` an array has
        the order of OpenCV. ``seconds`` are its time on any clock; times must not fall. A frame
        without structure has no loop. Raises ``UsageError``, and what a photo on the disk raises;
        then the frame is not stored.
        """
        top, seconds = require_whole("top", top), require_number("seconds", seconds)
        require(seconds >= self._last, "seconds", f"at least those before ({self._last:g})")
        pixels = photo_of(photo, bgr=bgr, shrink_to=self.model.shrink_to).pixels
        loops: list[Loop] = []
        if not has_structure(pixels):
            self._before.clear()
        else:
            with single_threaded_blas():
                features = self.model.feature_map(pixels)
                query = self.model.describe_map(features, stride=1)
                loops = self._loops(query, seconds)
                self._store(features, query.global_descriptor, seconds, loops)
        self._count, self._last = self._count + 1, seconds
        return tuple(loops[:top])

    def _loops(self, query: Features, now: float) -> list[Loop]:
        """Return a loop for each candidate among the frames that are old enough, best first."""
        old = bisect_right(self._frames, now - self.skip_seconds, key=lambda frame: frame.seconds)
        if old < FEWEST_PHOTOS:
            self._before.clear()
            return []
        rows, cosines = self._shortlist(query.global_descriptor, old)
        frames = [self._frames[row] for row in rows]
        stored = [frame.patches for frame in frames]
        matched = match_candidates(query.patches, stored, self._threads, StoredPatches.decode)
        scores, matches = score_matches(matched, self.model.settings, self._threads, cosines)

        def elsewhere(first: int, second: int) -> bool:
            one, two = frames[first], frames[second]
            apart = min(abs(one.seconds - two.seconds), abs(one.home - two.home))
            return apart > NEAR_SECONDS

        confidences = Calibration().confidence(evidence(scores, elsewhere))
        order = best_first(scores).tolist()
        loops = [
            Loop(
                self._count, frames[n].number, now, frames[n].seconds, float(confidences[n]),
                bool(confidences[n] >= self.sure) and self._is_steady(now, frames[n].seconds),
                float(scores[n]), float(cosines[n]), matches[n],
            )
            for n in order
        ]  # fmt: skip
        self._before.append((now, loops[0].earlier_seconds))
        return loops

    def _is_steady(self, now: float, earlier: float) -> bool:
        """Whether the frames before led to the stretch around the time ``earlier``."""
        return len(self._before) == STEADY and all(
            abs(answer - earlier) <= 1.0 + 2.0 * (now - then) for then, answer in self._before
        )

    def _shortlist(self, descriptor: Array, old: int) -> tuple[list[int], Array]:
        """Return the candidates among the first ``old`` stored frames: rows and cosines (n,)."""
        rows, cosines = [], []
        for number, block in enumerate(self._blocks[: -(-old // BLOCK)]):
            first = block.first(min(BLOCK, old - number * BLOCK))
            order, similar = first.shortlist(descriptor, self.model.settings.candidates)
            rows.append(order + number * BLOCK)
            cosines.append(similar)
        all_cosines = np.concatenate(cosines)
        best = best_first(all_cosines)[: self.model.settings.candidates]
        return np.concatenate(rows)[best].tolist(), all_cosines[best]

    def _store(self, features: Array, descriptor: Array, seconds: float, loops: list[Loop]) -> None:
        """Store a frame as a photo of an index is stored; ``features`` is its feature map."""
        seal = self._count.to_bytes(8, "little")
        settings, row = self.model.settings, len(self._frames)
        blobs = tuple(
            codec.encode_patches(
                patch_set(features, self.model.fitted, settings, size, settings.stride),
                codec.patch_key(seal, ordinal), SMALL.patches,
            )
            for ordinal, size in enumerate(settings.patch_sizes)
        )  # fmt: skip
        dtype = SMALL.descriptor
        stored, scale = pack(descriptor[np.newaxis], dtype, "global descriptor")
        if row % BLOCK == 0:
            room = np.empty((BLOCK, stored.shape[1]), stored.dtype), np.zeros(BLOCK, np.float32)
            self._blocks.append(Vectors(*room, len(descriptor), dtype))
        self._blocks[-1].stored[row % BLOCK], self._blocks[-1].scales[row % BLOCK] = stored, scale
        home = seconds
        if loops and loops[0].accepted:
            home = next(f.home for f in self._frames if f.number == loops[0].earlier)
        patches = StoredPatches(blobs, seal, MEMORY, SMALL.patches)
        self._frames.append(_Frame(self._count, seconds, home, patches))
