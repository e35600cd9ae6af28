"""``xfeat``: XFeat's keypoints, matched by the small LightGlue that was published with them.

Source: Potje et al., "XFeat: accelerated features for lightweight image matching", CVPR 2024. The
networks are kornia's, with the published weights out of the cache folder (``weights``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from placerec.baselines.contract import Provenance
from placerec.baselines.keypoints import KeypointReranker
from placerec.baselines.lightglue import (
    LightGlueMatcher,
    code_and_weights,
    kornia_feature,
    loaded,
    rows,
)
from placerec.baselines.weights import Weights, how_to_make, read_weights
from placerec.records import Array

if TYPE_CHECKING:
    import torch

THRESHOLD = 0.05  # of the keypoint map; the published default
MATCHER = {
    "input_dim": 64, "descriptor_dim": 96, "n_layers": 6, "num_heads": 1,
    "depth_confidence": -1, "width_confidence": 0.95, "filter_threshold": 0.1,
}  # fmt: skip


def xfeat(**options: Any) -> KeypointReranker:
    """XFeat with its LightGlue; ``options`` are those of ``KeypointReranker``."""
    weights = read_weights("xfeat", how_to_make("xfeat"))
    provenance = Provenance("Apache-2.0", "MegaDepth, and homographies of COCO")
    return KeypointReranker("xfeat", XFeat(weights), provenance, **options)


class XFeat:
    """XFeat with its LightGlue, a ``Network``."""

    def __init__(self, weights: Weights) -> None:
        self._extractor = kornia_feature().XFeat(detection_threshold=THRESHOLD)
        loaded(self._extractor.net, weights.part("extractor"), weights)
        self.match = LightGlueMatcher(weights, MATCHER)
        self.sha256 = code_and_weights(weights, THRESHOLD, MATCHER)
        self.weights = {weights.path.name: weights.sha256}

    def detect(self, image: torch.Tensor, count: int) -> dict[str, Array]:
        """The strongest keypoints, at whole pixels of the photo at a multiple of 32 pixels."""
        found = self._extractor.detectAndCompute(image, top_k=count)[0]
        return rows(found["keypoints"], found["descriptors"])
