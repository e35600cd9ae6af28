"""What the keypoint re-rankers share: photo to keypoints, matches to a score.

A ``Network`` finds and matches keypoints; ``KeypointReranker`` is the rest. The score is the number
of matches that agree with one homography (OpenCV's MAGSAC, 3 pixels), as in the published
evaluations of keypoint re-ranking for place recognition: Barbarani et al., "Are local features all
you need for cross-domain visual place recognition?", CVPRW 2023; Sferrazza et al., "To match or not
to match", CVPRW 2025, whose constants these are. House fronts and road are nearly planes, and a
fundamental matrix explains too many wrong matches. Pixels are those of the resized photo, x before
y, and the centre of the first one is (0, 0).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from placerec.baselines.contract import Local, Provenance, Verified
from placerec.errors import MissingExtra, UsageError
from placerec.records import Array
from placerec.workers import map_in_order

if TYPE_CHECKING:
    import torch

KEYPOINTS = 512  # at most, a photo
LONGER_SIDE = 640  # pixels that a photo is resized to, down or up
SMALLEST_SIDE, LARGEST_SIDE = 64, 4096
TOLERANCE = 3.0  # pixels
CONFIDENCE = 0.95
TRIALS = 2000
FEWEST_MATCHES = 4
SLIVER = 32  # pixels: a photo with a shorter side is as good as blank
LEAST_CONTRAST = 3  # of 255: below, a photo is blank and what is found in it is rounding


class Network(Protocol):
    """A detector with its matcher."""

    @property
    def sha256(self) -> str:
        """Of the weights and of the code that runs them."""

    @property
    def weights(self) -> Mapping[str, str]:
        """sha256 (hex) of each weight file, by its name."""

    def detect(self, image: torch.Tensor, count: int) -> dict[str, Array]:
        """(1, 3, H, W) float32 RGB in 0..1 to at most ``count`` keypoints.

        ``keypoints`` (N, 2) float32 pixels, ``descriptors`` (N, D) float16, and what else the
        matcher needs, all with N rows.
        """

    def match(self, query: Local, candidate: Local) -> Array:
        """Matches (M, 2) int64: row of the query, row of the candidate. Neither is empty."""


class KeypointReranker:
    """A ``Reranker`` that counts verified keypoint matches.

    A photo, or a pair, runs on one thread, and pairs are spread over ``threads``: no bit depends
    on their number, and a busy machine does not slow them out of proportion.
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
            raise UsageError(f"keypoints: {keypoints}; give {FEWEST_MATCHES} or more")
        if not SMALLEST_SIDE <= longer_side <= LARGEST_SIDE:
            raise UsageError(
                f"longer-side: {longer_side}; give {SMALLEST_SIDE} to {LARGEST_SIDE} pixels"
            )
        self._method, self._network, self._provenance = method, network, provenance
        self._keypoints, self._longer_side = keypoints, longer_side
        self._threads = threads

    @property
    def name(self) -> str:
        """The method, with the number of keypoints and the size where they are not the default."""
        changes = []
        if self._keypoints != KEYPOINTS:
            changes.append(f"{self._keypoints} keypoints")
        if self._longer_side != LONGER_SIDE:
            changes.append(f"{self._longer_side} px")
        return f"{self._method} ({', '.join(changes)})" if changes else self._method

    @property
    def provenance(self) -> Provenance:
        """Licence and training data of the weights."""
        return self._provenance

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of weights, code version and parameters."""
        return fingerprint(
            self._method, self._network.sha256, self._keypoints, self._longer_side,
            TOLERANCE, CONFIDENCE, TRIALS, LEAST_CONTRAST, SLIVER,
        )  # fmt: skip

    @property
    def record(self) -> dict[str, Any]:
        """Options and weights, at their defaults too."""
        return {
            "keypoints": self._keypoints, "longer_side": self._longer_side,
            "weights": dict(self._network.weights),
        }  # fmt: skip

    def describe(self, pixels: Array) -> Local:
        """Keypoints of (H, W, 3) uint8 RGB, as the network gives them.

        With ``size`` (2,) int32: width and height of the resized photo. A blank photo has none.
        """
        torch = use_torch(self._method)
        resized = with_longer_side(pixels, self._longer_side)
        size = np.array(resized.shape[1::-1], np.int32)
        blank = int(resized.max()) - int(resized.min()) < LEAST_CONTRAST or min(size) < SLIVER
        if blank:  # the network only tells what its empty arrays look like
            resized = np.zeros((SMALLEST_SIDE, SMALLEST_SIDE, 3), np.uint8)
        planes = np.ascontiguousarray(resized.transpose(2, 0, 1)[None], np.float32) / 255
        with torch.inference_mode():
            found = self._network.detect(torch.from_numpy(planes), self._keypoints)
        return {**{key: rows[:0] if blank else rows for key, rows in found.items()}, "size": size}

    def score(self, query: Local, candidates: Sequence[Local]) -> list[Verified]:
        """The number of verified matches with each candidate."""
        return list(map_in_order(partial(self._score, query), candidates, self._threads))

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
    """(H, W, 3) uint8 RGB resized to a longer side of ``side`` pixels, its shape kept."""
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise UsageError(
            f"pixels: {pixels.dtype} of shape {pixels.shape}; give (height, width, 3) uint8 RGB"
        )
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if size == (width, height):
        return pixels
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR))


def agreeing(points: Array) -> Array:
    """Which of the matches (M, 4), pixels x y x y, one homography explains: (M,) bool."""
    none = np.zeros(len(points), bool)
    if len(points) < FEWEST_MATCHES:
        return none
    try:
        import cv2
    except ImportError as error:
        raise MissingExtra("keypoint re-ranking", "baselines") from error
    _, mask = cv2.findHomography(
        np.ascontiguousarray(points[:, :2], np.float64),
        np.ascontiguousarray(points[:, 2:], np.float64),
        cv2.USAC_MAGSAC, TOLERANCE, confidence=CONFIDENCE, maxIters=TRIALS,
    )  # fmt: skip
    return none if mask is None else mask.ravel().astype(bool)


def fingerprint(*parts: object) -> str:
    """sha256 (hex) of plain values, in their order."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def use_torch(method: str) -> Any:
    """PyTorch on one thread: several of its own wait for each other where a core is taken."""
    try:
        import torch
    except ImportError as error:
        raise MissingExtra(f"method {method}", "baselines") from error
    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)
    return torch
