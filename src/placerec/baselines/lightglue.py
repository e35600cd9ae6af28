"""``aliked-lightglue`` and ``disk-lightglue``: learnt keypoints, matched by LightGlue.

Sources: ALIKED, Zhao et al., IEEE Transactions on Instrumentation and Measurement 72, 2023; DISK,
Tyszkiewicz, Fua and Trulls, NeurIPS 2020; LightGlue, Lindenberger, Sarlin and Pollefeys, ICCV 2023.
The networks are kornia's, with the published weights out of the cache folder (``weights``). They
are built without weights, so kornia downloads nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from placerec.baselines.contract import Local, Provenance
from placerec.baselines.keypoints import KeypointReranker, fingerprint
from placerec.baselines.weights import Weights, how_to_make, read_weights
from placerec.errors import MissingExtra, UnsafeWeights
from placerec.records import Array

if TYPE_CHECKING:
    import torch

ALIKED_MODEL = "aliked-n16"
ALIKED_THRESHOLD = 0.2  # of the detector's score; the published default
DISK_WINDOW = 5  # pixels in which a keypoint is the strongest one
MATCHER = {"input_dim": 128}  # of LightGlue for ALIKED and for DISK
# What kornia works out by itself and no weight file needs to hold.
DERIVED = {"confidence_thresholds", "dkd.hw_grid"}


def aliked_lightglue(**options: Any) -> KeypointReranker:
    """ALIKED (n16) with LightGlue; ``options`` are those of ``KeypointReranker``."""
    weights = read_weights("aliked-lightglue", how_to_make("aliked-lightglue"))
    provenance = Provenance(
        "Apache-2.0 (LightGlue), BSD-3-Clause (ALIKED)",
        "ALIKED: MegaDepth, and homographies of photos of Oxford and Paris; LightGlue: "
        "homographies of photos of Oxford and Paris, then MegaDepth",
    )
    return KeypointReranker("aliked-lightglue", Aliked(weights), provenance, **options)


def disk_lightglue(**options: Any) -> KeypointReranker:
    """DISK (trained with depth) with LightGlue; ``options`` are those of ``KeypointReranker``."""
    weights = read_weights("disk-lightglue", how_to_make("disk-lightglue"))
    provenance = Provenance(
        "Apache-2.0",
        "DISK: MegaDepth; LightGlue: homographies of photos of Oxford and Paris, then MegaDepth",
    )
    return KeypointReranker("disk-lightglue", Disk(weights), provenance, **options)


class LightGlueMatcher:
    """LightGlue from a weight file's ``matcher`` part, one pair at a time.

    It stops early and drops points by each pair's own confidence, so pairs are never batched.
    """

    def __init__(self, weights: Weights, configuration: Mapping[str, Any]) -> None:
        feature = kornia_feature()
        self._module = loaded(
            feature.LightGlue(None, **configuration), weights.part("matcher"), weights
        )

    def __call__(self, query: Local, candidate: Local) -> Array:
        """Matches (M, 2) int64."""
        import torch

        one, other = (
            {
                "keypoints": torch.from_numpy(np.array(side["keypoints"], np.float32))[None],
                "descriptors": torch.from_numpy(np.array(side["descriptors"], np.float32))[None],
                "image_size": torch.from_numpy(np.array(side["size"], np.int64))[None],
            }
            for side in (query, candidate)
        )
        matches = self._module({"image0": one, "image1": other})["matches"][0]
        return np.asarray(matches.numpy(), np.int64)


class Aliked:
    """ALIKED with LightGlue, a ``Network``."""

    def __init__(self, weights: Weights) -> None:
        extractor = kornia_feature().ALIKED(ALIKED_MODEL, detection_threshold=ALIKED_THRESHOLD)
        import torch

        # The same numbers to rounding in two thirds of the time; DISK would take longer.
        self._extractor = loaded(extractor, weights.part("extractor"), weights).to(
            memory_format=torch.channels_last
        )
        self.match = LightGlueMatcher(weights, MATCHER)
        self.sha256 = code_and_weights(weights, ALIKED_MODEL, ALIKED_THRESHOLD, MATCHER)
        self.weights = {weights.path.name: weights.sha256}

    def detect(self, image: torch.Tensor, count: int) -> dict[str, Array]:
        """The strongest keypoints, to a fraction of a pixel."""
        found = self._extractor(image)[0]
        order = found.keypoint_scores.argsort(descending=True, stable=True)[:count]
        return rows(found.keypoints[order], found.descriptors[order])


class Disk:
    """DISK with LightGlue, a ``Network``."""

    def __init__(self, weights: Weights) -> None:
        self._extractor = loaded(kornia_feature().DISK(), weights.part("extractor"), weights)
        self.match = LightGlueMatcher(weights, MATCHER)
        self.sha256 = code_and_weights(weights, DISK_WINDOW, MATCHER)
        self.weights = {weights.path.name: weights.sha256}

    def detect(self, image: torch.Tensor, count: int) -> dict[str, Array]:
        """The strongest keypoints, at whole pixels."""
        found = self._extractor(
            image, n=count, window_size=DISK_WINDOW, pad_if_not_divisible=True
        )[0]  # fmt: skip
        return rows(found.keypoints, found.descriptors)


def kornia_feature() -> Any:
    """The module ``kornia.feature``."""
    try:
        import kornia.feature
    except ImportError as error:
        raise MissingExtra("keypoint re-ranking", "baselines") from error
    return kornia.feature


def loaded(module: Any, state: Mapping[str, Array], weights: Weights) -> Any:
    """``module`` with ``state`` in it, for inference; every tensor must fit."""
    import torch

    tensors = {key: torch.from_numpy(np.array(value)) for key, value in state.items()}
    try:
        odd = module.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        why = " ".join(str(error).split())[:160]
        raise UnsafeWeights(weights.path, why, "convert them again") from error
    wrong = sorted(({*odd.missing_keys} - DERIVED) | {*odd.unexpected_keys})
    if wrong:
        raise UnsafeWeights(
            weights.path, f"tensor {wrong[0]} is missing or unknown", "convert them again"
        )
    return module.eval()


def rows(keypoints: torch.Tensor, descriptors: torch.Tensor) -> dict[str, Array]:
    """Keypoints and descriptors as they are stored."""
    return {
        "keypoints": keypoints.numpy().astype(np.float32),
        "descriptors": descriptors.numpy().astype(np.float16),
    }


def code_and_weights(weights: Weights, *parameters: object) -> str:
    """sha256 (hex) of weights, kornia's version and the network's parameters."""
    return fingerprint(weights.sha256, "kornia", version("kornia"), *parameters)
