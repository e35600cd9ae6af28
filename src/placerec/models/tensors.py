"""The tensors of a weight file, taken one by one with their expected shapes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from placerec.errors import UnsafeWeights
from placerec.method.pca import Projection
from placerec.method.vlad import Vocabulary
from placerec.records import Array


def as_float32(tensor: Any) -> Array:
    """Return a NumPy array as float32."""
    return np.asarray(tensor, np.float32)


@dataclass(frozen=True, slots=True)
class Tensors:
    """The tensors of the file ``path`` by name, of NumPy or PyTorch.

    ``take`` removes a tensor, so those that remain at the end are unknown. The name and the shape
    are checked before ``convert`` makes a float32 array of it. ``vocabulary_names`` are the names
    of centres, weights and bias, ``projection_names`` those of weight and bias.
    """

    path: Path
    tensors: dict[str, Any] = field(repr=False)
    vocabulary_names: tuple[str, str, str]
    projection_names: tuple[str, str]
    convert: Callable[[Any], Array] = as_float32
    remedy: str = "make the file again"

    def refused(self, why: str) -> UnsafeWeights:
        """Return the error with the reason ``why``."""
        return UnsafeWeights(self.path, why, self.remedy)

    def take(self, name: str, shape: tuple[int | None, ...]) -> Array:
        """Remove a tensor and return it; ``None`` in ``shape`` allows any length above 0."""
        if name not in self.tensors:
            raise self.refused(f"tensor {name} is missing")
        tensor = self.tensors.pop(name)
        stored = tuple(tensor.shape)
        fits = len(stored) == len(shape) and all(
            length and expected in (None, length)
            for expected, length in zip(shape, stored, strict=True)
        )
        if not fits:
            expected = " x ".join("any" if length is None else str(length) for length in shape)
            raise self.refused(f"tensor {name} has shape {stored}, not {expected}")
        try:
            array = self.convert(tensor)
        except (RuntimeError, TypeError) as error:  # a type that PyTorch itself cannot convert
            raise self.refused(f"tensor {name} cannot become float32 ({tensor.dtype})") from error
        if not np.isfinite(array).all():
            raise self.refused(f"tensor {name} is not finite")
        return array

    def vocabulary(self, clusters: int | None, depth: int, prefix: str = "") -> Vocabulary:
        """Take a vocabulary; ``None`` allows any number of clusters, and the bias is optional."""
        centres_name, weights_name, bias_name = (prefix + name for name in self.vocabulary_names)
        centres = self.take(centres_name, (clusters, depth))
        weights = self.take(weights_name, centres.shape)
        biased = bias_name in self.tensors
        return Vocabulary(
            centres, weights, self.take(bias_name, centres.shape[:1]) if biased else None
        )

    def projection(self, width: int, prefix: str = "") -> Projection | None:
        """Take a PCA of vectors of ``width`` values; None if there is none."""
        weight_name, bias_name = (prefix + name for name in self.projection_names)
        if weight_name not in self.tensors:
            return None
        weight = self.take(weight_name, (None, width))
        return Projection(weight, self.take(bias_name, weight.shape[:1]))

    def refuse_rest(self) -> None:
        """Raise ``UnsafeWeights`` if a tensor remains."""
        if self.tensors:
            raise self.refused(f"unknown tensor {min(self.tensors)}")
