"""``aliked-lightglue``, ``disk-lightglue`` and ``xfeat``: learnt keypoints, matched by LightGlue.

Sources: ALIKED, Zhao et al., IEEE Transactions on Instrumentation and Measurement 72, 2023; DISK,
Tyszkiewicz, Fua and Trulls, NeurIPS 2020; XFeat, with its small LightGlue, Potje et al., "XFeat:
accelerated features for lightweight image matching", CVPR 2024; LightGlue, Lindenberger, Sarlin and
Pollefeys, ICCV 2023. The networks are kornia's. They are built without weights, so kornia downloads
nothing; the published weights come from the cache folder (``weights``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from placerec.baselines.contract import Local, Provenance
from placerec.baselines.keypoints import KeypointReranker, Network, fingerprint
from placerec.baselines.weights import SOURCES, Weights, read_weights
from placerec.errors import UnsafeWeights, import_extra
from placerec.records import Array

if TYPE_CHECKING:
    import torch

ALIKED_MODEL = "aliked-n16"
ALIKED_THRESHOLD = 0.2  # of the detector's score; the published default
DISK_WINDOW = 5  # pixels; a keypoint is the strongest in its window
XFEAT_THRESHOLD = 0.05  # of the keypoint map; the published default
MATCHER = {"input_dim": 128}  # of LightGlue for ALIKED and for DISK
XFEAT_MATCHER = {
    "input_dim": 64, "descriptor_dim": 96, "n_layers": 6, "num_heads": 1,
    "depth_confidence": -1, "width_confidence": 0.95, "filter_threshold": 0.1,
}  # fmt: skip
# kornia computes these tensors, so no weight file needs to contain them.
DERIVED = {"confidence_thresholds", "dkd.hw_grid"}


def lightglue(name: str, **options: Any) -> KeypointReranker:
    """Return the re-ranker ``name`` of ``NETWORKS`` with its weights of the cache folder.

    ``options`` are those of ``KeypointReranker``.
    """
    network, provenance = NETWORKS[name]
    weights = read_weights(name, SOURCES[name]["extractor"].convert(name))
    return KeypointReranker(name, network(weights), provenance, **options)


class _KorniaNetwork:
    """The matcher and the identity of a ``Network``; ``parameters`` enter its ``sha256``."""

    def __init__(self, weights: Weights, matcher: Mapping[str, Any], *parameters: object) -> None:
        matcher_module = _kornia_feature().LightGlue(None, **matcher)
        self._matcher = _loaded(matcher_module, "matcher", weights)
        self.weights = {weights.path.name: weights.sha256}
        self.sha256 = fingerprint(
            weights.sha256, "kornia", version("kornia"), *parameters, dict(matcher)
        )

    def match(self, query: Local, candidate: Local) -> Array:
        """Return matches (M, 2) int64 of one pair.

        LightGlue stops early and drops points by the confidence of the pair, so pairs are never
        batched.
        """
        import torch

        images = {
            name: {
                "keypoints": torch.from_numpy(np.array(photo["keypoints"], np.float32))[None],
                "descriptors": torch.from_numpy(np.array(photo["descriptors"], np.float32))[None],
                "image_size": torch.from_numpy(np.array(photo["size"], np.int64))[None],
            }
            for name, photo in (("image0", query), ("image1", candidate))
        }
        matches = self._matcher(images)["matches"][0]
        return np.asarray(matches.numpy(), np.int64)


class Aliked(_KorniaNetwork):
    """ALIKED with LightGlue, a ``Network``."""

    def __init__(self, weights: Weights) -> None:
        super().__init__(weights, MATCHER, ALIKED_MODEL, ALIKED_THRESHOLD)
        import torch

        extractor = _kornia_feature().ALIKED(ALIKED_MODEL, detection_threshold=ALIKED_THRESHOLD)
        # The results are equal up to rounding and take two thirds of the time. DISK takes longer.
        self._extractor = _loaded(extractor, "extractor", weights).to(
            memory_format=torch.channels_last
        )

    def detect(self, image: torch.Tensor, count: int) -> dict[str, Array]:
        """Return the strongest keypoints, at fractions of a pixel."""
        features = self._extractor(image)[0]
        order = features.keypoint_scores.argsort(descending=True, stable=True)[:count]
        return _stored(features.keypoints[order], features.descriptors[order])


class Disk(_KorniaNetwork):
    """DISK with LightGlue, a ``Network``."""

    def __init__(self, weights: Weights) -> None:
        super().__init__(weights, MATCHER, DISK_WINDOW)
        self._extractor = _loaded(_kornia_feature().DISK(), "extractor", weights)

    def detect(self, image: torch.Tensor, count: int) -> dict[str, Array]:
        """Return the strongest keypoints, at whole pixels."""
        features = self._extractor(
            image, n=count, window_size=DISK_WINDOW, pad_if_not_divisible=True
        )[0]  # fmt: skip
        return _stored(features.keypoints, features.descriptors)


class XFeat(_KorniaNetwork):
    """XFeat with its LightGlue, a ``Network``."""

    def __init__(self, weights: Weights) -> None:
        super().__init__(weights, XFEAT_MATCHER, XFEAT_THRESHOLD)
        self._extractor = _kornia_feature().XFeat(detection_threshold=XFEAT_THRESHOLD)
        _loaded(self._extractor.net, "extractor", weights)

    def detect(self, image: torch.Tensor, count: int) -> dict[str, Array]:
        """Return the strongest keypoints, at whole pixels of the photo at a multiple of 32."""
        features = self._extractor.detectAndCompute(image, top_k=count)[0]
        return _stored(features["keypoints"], features["descriptors"])


NETWORKS: dict[str, tuple[Callable[[Weights], Network], Provenance]] = {
    "aliked-lightglue": (
        Aliked,
        Provenance(
            "Apache-2.0 (LightGlue), BSD-3-Clause (ALIKED)",
            "ALIKED: MegaDepth, and homographies of photos of Oxford and Paris; LightGlue: "
            "homographies of photos of Oxford and Paris, then MegaDepth",
        ),
    ),
    "disk-lightglue": (
        Disk,
        Provenance(
            "Apache-2.0",
            "DISK: MegaDepth; LightGlue: homographies of photos of Oxford and Paris, then "
            "MegaDepth",
        ),
    ),
    "xfeat": (XFeat, Provenance("Apache-2.0", "MegaDepth, and homographies of COCO")),
}


def _kornia_feature() -> Any:
    return import_extra("kornia.feature", "keypoint re-ranking", "baselines")


def _loaded(module: Any, part: str, weights: Weights) -> Any:
    """Return ``module`` with a part of ``weights``, for inference; every tensor must fit."""
    import torch

    tensors = {k: torch.from_numpy(np.array(value)) for k, value in weights.part(part).items()}
    try:
        keys = module.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        why = " ".join(str(error).split())[:160]
        raise UnsafeWeights(weights.path, why, "convert them again") from error
    wrong = sorted(({*keys.missing_keys} - DERIVED) | {*keys.unexpected_keys})
    if wrong:
        why = f"tensor {wrong[0]} is missing or unknown"
        raise UnsafeWeights(weights.path, why, "convert them again")
    return module.eval()


def _stored(keypoints: torch.Tensor, descriptors: torch.Tensor) -> dict[str, Array]:
    """Return keypoints and descriptors as they are stored."""
    return {
        "keypoints": keypoints.numpy().astype(np.float32),
        "descriptors": descriptors.numpy().astype(np.float16),
    }
