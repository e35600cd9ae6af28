"""``ap-gem``: ResNet-101, generalised-mean pooling, a linear layer, whitening.

Source: Revaud, Almazan, Rezende and de Souza, "Learning with average precision: training image
retrieval with a listwise loss", ICCV 2019, and its program, deep-image-retrieval: photos at their
own size and shape; ImageNet's mean and deviation; the pooling of Radenovic, Tolias and Chum (TPAMI
2018) with the trained power p; unit length; whitening with power .25; unit length again. Ours:
photos larger than 1024 pixels, the size of the authors' evaluation, are shrunk. The weights are the
authors' checkpoint, which the user downloads (docs/BASELINES.md) and converts with
``placerec weights convert ap-gem Resnet101-AP-GeM-LM18.pt`` (``ap_gem_checkpoint``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from placerec.baselines.contract import Provenance
from placerec.baselines.keypoints import fingerprint, name_with, use_torch, with_longer_side
from placerec.baselines.resnet import CHANNELS, STRIDE, blocks_of, feature_map, state_shapes
from placerec.baselines.weights import read_weights
from placerec.errors import UnsafeWeights, UsageError
from placerec.method.pca import Projection
from placerec.method.vlad import normalise
from placerec.photos.prepare import Preprocessing, prepare
from placerec.records import Array
from placerec.runtime import Progress

METHOD = "ap-gem"
HOW = "placerec weights convert ap-gem Resnet101-AP-GeM-LM18.pt, the checkpoint of its authors"
REMEDY = "give the authors' Resnet101-AP-GeM-LM18.pt, unchanged"
LARGEST = 1024  # pixels of the longer side
POOLING_FLOOR = 1e-6


class ApGem:
    """AP-GeM, a ``Retriever``: 2048 values per photo.

    ``weights`` is the converted checkpoint, by default that of the cache folder. Photos have at
    most ``longer_side`` pixels.
    """

    def __init__(self, weights: str | Path | None = None, longer_side: int = LARGEST) -> None:
        if longer_side < STRIDE:
            raise UsageError(f"longer_side: must be at least {STRIDE} pixels, not {longer_side}")
        torch = use_torch(METHOD)
        stored = read_weights(METHOD, HOW, weights)
        check(stored.tensors, stored.path)
        tensors = {key: np.asarray(value, np.float32) for key, value in stored.tensors.items()}
        encoder = stored.part("encoder")
        self._state = {key: torch.from_numpy(np.array(value)) for key, value in encoder.items()}
        self._power = float(tensors["adpool.p"][0])
        self._layer = Projection(tensors["fc.weight"], tensors["fc.bias"])
        self._whitening = None
        if "whitening.weight" in tensors:
            self._whitening = Projection(tensors["whitening.weight"], tensors["whitening.bias"])
        mean, deviation = ((255 * tensors[name]).tolist() for name in ("mean", "std"))
        self._preprocessing = Preprocessing((0, 0), tuple(mean), tuple(deviation))
        self._longer_side = longer_side
        self.name = name_with(
            METHOD,
            "" if self._whitening else "not whitened",
            f"{longer_side} px" if longer_side != LARGEST else "",
        )
        self.fingerprint = fingerprint(METHOD, stored.sha256, longer_side, POOLING_FLOOR)
        weight_files = {stored.path.name: stored.sha256}
        self.record: dict[str, Any] = {"longer_side": longer_side, "weights": weight_files}
        header = stored.metadata
        real = header["real"] == "yes"
        self.provenance = Provenance(header["licence"], header["training_data"], real)

    def fit(self, photos: Callable[[], Iterator[Array]], count: int, progress: Progress) -> None:
        """Do nothing: the network is already trained."""

    def describe(self, pixels: Array) -> Array:
        """Return (2048,) float32 of unit length for (H, W, 3) uint8 RGB."""
        torch = use_torch(METHOD)
        if max(pixels.shape[:2]) > self._longer_side:
            pixels = with_longer_side(pixels, self._longer_side)
        image = torch.from_numpy(prepare(pixels, self._preprocessing))
        with torch.inference_mode():
            features = feature_map(self._state, image)[0].numpy()
        vector = normalise(self._layer(generalised_mean(features, self._power)))
        return vector if self._whitening is None else normalise(self._whitening(vector))


def generalised_mean(features: Array, power: float) -> Array:
    """Return (mean of f^p)^(1/p) of each channel: (C, h, w) to (C,) float32."""
    lifted = np.maximum(features.astype(np.float64), POOLING_FLOOR) ** power
    return np.asarray(lifted.mean(axis=(1, 2)) ** (1 / power), np.float32)


def check(tensors: Mapping[str, Array], path: Path) -> None:
    """Raise ``UnsafeWeights`` that names the first tensor that does not fit the method."""
    width = len(tensors.get("fc.bias", ()))
    encoder = [key.removeprefix("encoder.") for key in tensors if key.startswith("encoder.")]
    shapes = {f"encoder.{key}": shape for key, shape in state_shapes(blocks_of(encoder)).items()}
    shapes |= {"adpool.p": (1,), "fc.weight": (width, CHANNELS), "fc.bias": (width,),
               "mean": (3,), "std": (3,)}  # fmt: skip
    if "whitening.weight" in tensors:
        outputs = len(tensors["whitening.weight"])
        shapes |= {"whitening.weight": (outputs, width), "whitening.bias": (outputs,)}
    for key in sorted({*shapes, *tensors}):
        if key not in tensors or key not in shapes:
            fault = "is missing" if key in shapes else "is unknown"
        elif tensors[key].shape != shapes[key]:
            fault = f"has shape {tensors[key].shape}, not {shapes[key]}"
        elif not np.isfinite(tensors[key]).all():
            fault = "has values that are not finite"
        elif key == "adpool.p" and tensors[key][0] <= 0:
            fault = "is not above 0"
        else:
            continue
        raise UnsafeWeights(path, f"tensor {key} {fault}", REMEDY)
