"""The seeded weights of the golden numbers, drawn in the order that their README describes."""

from __future__ import annotations

import numpy as np

from placerec.method.pca import Projection
from placerec.method.vlad import Vocabulary
from placerec.records import Array
from placerec.trunks.convert import VGG16_LAYERS

SEED = 20210301
CLUSTERS, DEPTH, DIMENSIONS = 16, 512, 128
SIZES = (2, 5, 8)
WEIGHTS = (0.45, 0.15, 0.4)
MILD = 10.0
CHANNELS = (
    (3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256), (256, 512),
    *[(512, 512)] * 5,
)  # fmt: skip


def seeded_weights(scale: float = MILD) -> tuple[dict[str, Array], Vocabulary, Projection]:
    """Return a state of VGG16, a vocabulary with assignment weights of length ``scale``, a PCA."""
    draw = np.random.RandomState(SEED).standard_normal
    state = {}
    for number, (inputs, outputs) in zip(VGG16_LAYERS, CHANNELS, strict=True):
        weight = draw((outputs, inputs, 3, 3))
        weight = (weight - weight.mean(axis=(1, 2, 3), keepdims=True)) * np.sqrt(2 / (9 * inputs))
        state[f"encoder.{number}.weight"] = weight.astype(np.float32)
        state[f"encoder.{number}.bias"] = (0.05 * draw(outputs)).astype(np.float32)
    unit = draw((CLUSTERS, DEPTH))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    vocabulary = Vocabulary((0.8 * unit).astype(np.float32), (scale * unit).astype(np.float32))
    weight = draw((DIMENSIONS, CLUSTERS * DEPTH)) / np.sqrt(CLUSTERS * DEPTH)
    bias = 0.01 * draw(DIMENSIONS)
    return state, vocabulary, Projection(weight.astype(np.float32), bias.astype(np.float32))
