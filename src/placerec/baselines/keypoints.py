"""The common part of the keypoint re-rankers: photo to keypoints, matches to a score.

A ``Network`` finds and matches keypoints; ``KeypointReranker`` does the rest. The score is the
number of matches that agree with one homography (OpenCV's MAGSAC, 3 pixels), as in the published
evaluations of keypoint re-ranking for place recognition: Barbarani et al., "Are local features all
you need for cross-domain visual place recognition?", CVPRW 2023; Sferrazza et al., "To match or not
to match", CVPRW 2025, which is the source of the constants. House fronts and roads are nearly
planes, and a fundamental matrix accepts too many wrong matches. Pixels are those of the resized
photo, x before y; the centre of the first pixel is (0, 0).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from placerec.baselines.contract import Local, Provenance, Verified
from placerec.errors import UsageError, import_extra
from placerec.records import Array
from placerec.workers import map_all

if TYPE_CHECKING:
    import torch

KEYPOINTS = 512  # at most, per photo
LONGER_SIDE = 640  # pixels; photos are shrunk or enlarged to it
SMALLEST_SIDE, LARGEST_SIDE = 64, 4096
TOLERANCE = 3.0  # pixels
CONFIDENCE = 0.95
TRIALS = 2000
FEWEST_MATCHES = 4
SLIVER = 32  # pixels; a photo with a shorter side counts as blank
LEAST_CONTRAST = 3  # of 255; keypoints of a photo with less contrast come from rounding


class Network(Protocol):
    """A detector with its matcher.

    ``sha256`` is that of the weights and of the code that runs them; ``weights`` are the sha256
    (hex) of the weight files by name.
    """

    sha256: str
    weights: dict[str, str]

    def detect(self, image: torch.Tensor, count: int) -> dict[str, Array]:
        """Return at most ``count`` keypoints of (1, 3, H, W) float32 RGB in 0..1.

        ``keypoints`` (N, 2) float32 pixels, ``descriptors`` (N, D) float16, and all other arrays
        that the matcher needs, with N rows.
        """

    def match(self, query: Local, candidate: Local) -> Array:
        """Return matches (M, 2) int64: row of the query, row of the candidate; both have rows."""


class KeypointReranker:
    """A ``Reranker`` that counts verified keypoint matches.

    ``name`` contains the options that are not at their default; ``record`` and ``fingerprint``
    contain all. One thread describes a photo or scores a pair, and pairs are spread over
    ``threads``. So no bit depends on the number of threads, and a busy machine does not slow the
    run out of proportion.
    """

    def __init__(
        self,
        method: str,
        network: Network,
        provenance: Provenance,
        *,
        keypoints: int = KEYPOINTS,
        longer_side: int = LONGER_SIDE,
        threads: int = 1,
    ) -> None:
        if keypoints < FEWEST_MATCHES:
            raise UsageError(f"keypoints: must be at least {FEWEST_MATCHES}, not {keypoints}")
        if not SMALLEST_SIDE <= longer_side <= LARGEST_SIDE:
            raise UsageError(
                f"longer_side: must be {SMALLEST_SIDE} to {LARGEST_SIDE} pixels, not {longer_side}"
            )
        self._method, self._network, self.provenance = method, network, provenance
        self._keypoints, self._longer_side, self._threads = keypoints, longer_side, threads
        self.name = name_with(
            method,
            f"{keypoints} keypoints" if keypoints != KEYPOINTS else "",
            f"{longer_side} px" if longer_side != LONGER_SIDE else "",
        )
        self.fingerprint = fingerprint(
            method, network.sha256, keypoints, longer_side,
            TOLERANCE, CONFIDENCE, TRIALS, LEAST_CONTRAST, SLIVER,
        )  # fmt: skip
        self.record: dict[str, Any] = {
            "keypoints": keypoints, "longer_side": longer_side, "weights": network.weights,
        }  # fmt: skip

    def describe(self, pixels: Array) -> Local:
        """Return the keypoints of (H, W, 3) uint8 RGB, as the network gives them.

        With ``size`` (2,) int32: width and height of the resized photo. A blank photo has none.
        """
        torch = use_torch(self._method)
        resized = with_longer_side(pixels, self._longer_side)
        size = np.array(resized.shape[1::-1], np.int32)
        blank = int(resized.max()) - int(resized.min()) < LEAST_CONTRAST or min(size) < SLIVER
        if blank:  # the network runs only to give empty arrays of the right shapes
            resized = np.zeros((SMALLEST_SIDE, SMALLEST_SIDE, 3), np.uint8)
        planes = np.ascontiguousarray(resized.transpose(2, 0, 1)[None], np.float32) / 255
        with torch.inference_mode():
            local = self._network.detect(torch.from_numpy(planes), self._keypoints)
        return {**{key: rows[:0] if blank else rows for key, rows in local.items()}, "size": size}

    def score(self, query: Local, candidates: Sequence[Local]) -> list[Verified]:
        """Return the verified matches with each candidate."""
        return map_all(partial(self._score, query), candidates, self._threads)

    def _score(self, query: Local, candidate: Local) -> Verified:
        if min(len(query["keypoints"]), len(candidate["keypoints"])) < FEWEST_MATCHES:
            return Verified(0.0, np.empty((0, 4), np.float32))
        with use_torch(self._method).inference_mode():
            pairs = self._network.match(query, candidate)
        points = np.concatenate(
            [query["keypoints"][pairs[:, 0]], candidate["keypoints"][pairs[:, 1]]], axis=1
        )
        points = points[agreeing(points)]
        sizes = np.concatenate([query["size"], candidate["size"]])
        return Verified(float(len(points)), ((points + 0.5) / sizes).astype(np.float32))


def with_longer_side(pixels: Array, side: int) -> Array:
    """Return (H, W, 3) uint8 RGB resized to a longer side of ``side`` pixels; aspect kept."""
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise UsageError(
            f"pixels: must be (height, width, 3) uint8 RGB, not {pixels.dtype} {pixels.shape}"
        )
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if size == (width, height):
        return pixels
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR))


def agreeing(points: Array) -> Array:
    """Return which matches (M, 4), pixels x y x y, agree with one homography: (M,) bool."""
    if len(points) < FEWEST_MATCHES:
        return np.zeros(len(points), bool)
    cv2 = import_extra("cv2", "keypoint re-ranking", "baselines")
    _, mask = cv2.findHomography(
        np.ascontiguousarray(points[:, :2], np.float64),
        np.ascontiguousarray(points[:, 2:], np.float64),
        cv2.USAC_MAGSAC, TOLERANCE, confidence=CONFIDENCE, maxIters=TRIALS,
    )  # fmt: skip
    return np.zeros(len(points), bool) if mask is None else np.asarray(mask, bool).ravel()


def name_with(method: str, *changes: str) -> str:
    """Return the name of a method with the changes that are not empty: ``xfeat (320 px)``."""
    text = ", ".join(filter(None, changes))
    return f"{method} ({text})" if text else method


def fingerprint(*parts: object) -> str:
    """Return the sha256 (hex) of plain values, in their order."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def use_torch(method: str) -> Any:
    """Return PyTorch on one thread; its own threads wait for each other on a busy machine."""
    torch = import_extra("torch", f"method {method}", "baselines")
    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)
    return torch
