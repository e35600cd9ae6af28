"""``ap-gem``: ResNet-101, generalised-mean pooling, a linear layer, whitening.

Source: Revaud, Almazan, Rezende and de Souza, "Learning with average precision: training image
retrieval with a listwise loss", ICCV 2019, and its program, deep-image-retrieval: photos at their
own size and shape, ImageNet's mean and deviation; the pooling of Radenovic, Tolias and Chum (TPAMI
2018) with the learnt power p; unit length; whitening, with power .25; unit length again. Ours:
photos larger than 1024 pixels, the size of those that the authors evaluate on, are made smaller.
The weights are the authors' checkpoint, which one gets oneself (docs/BASELINES.md) and converts:
``placerec weights convert ap-gem Resnet101-AP-GeM-LM18.pt`` (``ap_gem_checkpoint``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from placerec.baselines.contract import Progress, Provenance
from placerec.baselines.keypoints import fingerprint, use_torch, with_longer_side
from placerec.baselines.resnet import CHANNELS, STRIDE, blocks_of, feature_map, state_shapes
from placerec.baselines.weights import Weights, read_weight_file, read_weights
from placerec.errors import UnsafeWeights, UsageError
from placerec.method.pca import Projection
from placerec.method.vlad import normalise
from placerec.photos.prepare import Preprocessing, prepare
from placerec.records import Array

METHOD = "ap-gem"
HOW = "placerec weights convert ap-gem Resnet101-AP-GeM-LM18.pt, the checkpoint of its authors"
REMEDY = "give the authors' Resnet101-AP-GeM-LM18.pt, unchanged"
LARGEST = 1024  # pixels of the longer side
POOLING_FLOOR = 1e-6


def ap_gem(*, weights: Path | None = None, longer_side: int = LARGEST) -> ApGem:
    """The converted checkpoint ``weights``; none: that of the cache folder.

    ``longer_side`` is the largest, in pixels.
    """
    if weights is None:
        return ApGem(read_weights(METHOD, HOW), longer_side=longer_side)
    return ApGem(read_weight_file(weights, METHOD, HOW), longer_side=longer_side)


class ApGem:
    """AP-GeM, a ``Retriever``: 2048 values a photo."""

    def __init__(self, weights: Weights, *, longer_side: int = LARGEST) -> None:
        if longer_side < STRIDE:
            raise UsageError(f"longer-side: {longer_side}; give {STRIDE} pixels or more")
        torch = use_torch(METHOD)
        check(weights.tensors, weights.path)
        tensors = {key: np.asarray(value, np.float32) for key, value in weights.tensors.items()}
        encoder = weights.part("encoder")
        self._state = {key: torch.from_numpy(np.array(value)) for key, value in encoder.items()}
        self._power = float(tensors["adpool.p"][0])
        self._layer = Projection(tensors["fc.weight"], tensors["fc.bias"])
        self._whitening = None
        if "whitening.weight" in tensors:
            self._whitening = Projection(tensors["whitening.weight"], tensors["whitening.bias"])
        mean, deviation = ((255 * tensors[name]).tolist() for name in ("mean", "std"))
        self._preprocessing = Preprocessing((0, 0), tuple(mean), tuple(deviation))
        self._weights, self._longer_side = weights, longer_side

    @property
    def name(self) -> str:
        """The method; whether it is not whitened, and its size where that is not the default."""
        changes = ["not whitened"] if self._whitening is None else []
        if self._longer_side != LARGEST:
            changes.append(f"{self._longer_side} px")
        return f"{METHOD} ({', '.join(changes)})" if changes else METHOD

    @property
    def provenance(self) -> Provenance:
        """As the converted file says."""
        told = self._weights.metadata
        return Provenance(told["licence"], told["training_data"], told["real"] == "yes")

    @property
    def record(self) -> dict[str, Any]:
        """Size and weights, at their defaults too."""
        return {
            "longer_side": self._longer_side,
            "weights": {self._weights.path.name: self._weights.sha256},
        }

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of the weights and the size."""
        return fingerprint(METHOD, self._weights.sha256, self._longer_side, POOLING_FLOOR)

    def fit(self, photos: Callable[[], Iterator[Array]], count: int, progress: Progress) -> None:
        """Do nothing: all is learnt before."""

    def describe(self, pixels: Array) -> Array:
        """(H, W, 3) uint8 RGB to (2048,) float32 of unit length."""
        torch = use_torch(METHOD)
        if max(pixels.shape[:2]) > self._longer_side:
            pixels = with_longer_side(pixels, self._longer_side)
        image = torch.from_numpy(prepare(pixels, self._preprocessing))
        with torch.inference_mode():
            features = feature_map(self._state, image)[0].numpy()
        vector = normalise(self._layer(generalised_mean(features, self._power)))
        return vector if self._whitening is None else normalise(self._whitening(vector))


def generalised_mean(features: Array, power: float) -> Array:
    """(mean of f^p)^(1/p) of each channel: (C, h, w) to (C,) float32."""
    lifted = np.maximum(features.astype(np.float64), POOLING_FLOOR) ** power
    return np.asarray(lifted.mean(axis=(1, 2)) ** (1 / power), np.float32)


def check(tensors: Mapping[str, Array], path: Path) -> None:
    """Refuse ``tensors`` that are not those of the method, naming the first wrong one."""
    width = len(tensors.get("fc.bias", ()))
    encoder = [key.removeprefix("encoder.") for key in tensors if key.startswith("encoder.")]
    shapes = {f"encoder.{key}": shape for key, shape in state_shapes(blocks_of(encoder)).items()}
    shapes |= {"adpool.p": (1,), "fc.weight": (width, CHANNELS), "fc.bias": (width,),
               "mean": (3,), "std": (3,)}  # fmt: skip
    if "whitening.weight" in tensors:
        outputs = len(tensors["whitening.weight"])
        shapes |= {"whitening.weight": (outputs, width), "whitening.bias": (outputs,)}
    for key in sorted({*shapes} | {*tensors}):
        if key not in tensors or key not in shapes:
            fault = "is missing" if key in shapes else "is unknown"
        elif tensors[key].shape != shapes[key]:
            fault = f"has shape {tensors[key].shape}, not {shapes[key]}"
        elif not np.isfinite(tensors[key]).all():
            fault = "has values that are not finite"
        else:
            continue
        raise UnsafeWeights(path, f"tensor {key} {fault}", REMEDY)
    if tensors["adpool.p"][0] <= 0:
        raise UnsafeWeights(path, "tensor adpool.p is not above 0", REMEDY)
