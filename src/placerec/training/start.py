"""Before the first step: cluster centres and assignment weights from the photos themselves.

Source: NetVLAD, CVPR 2016, section 3.1, as the published program does it: 100 features of each of
500 random database photos, k-means, and alpha such that on average the best cluster gets 100 times
the weight of the second (``method.vlad.fit_vocabulary``).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from placerec.errors import UsageError
from placerec.evaluation.dataset import Photos
from placerec.method.vlad import Vocabulary, fit_vocabulary, normalise
from placerec.models.files import load_model
from placerec.records import Array
from placerec.training.features import FrozenFeatures
from placerec.trunks.vgg16 import VGG16

PHOTOS = 500
FEATURES_A_PHOTO = 100


def starting_model(path: Path | None) -> tuple[VGG16, Vocabulary | None]:
    """Where a training begins: a model file's trunk and clusters, or VGG16 of the cache folder."""
    if path is None:
        return VGG16.from_cache(), None
    model = load_model(path)
    if not isinstance(model.trunk, VGG16):
        raise UsageError(f"{path}: its trunk is {model.trunk.name}; only vgg16 can be trained")
    return model.trunk, model.fitted.vocabulary


def start_vocabulary(
    database: Photos,
    features: FrozenFeatures,
    encoder: nn.Sequential,
    clusters: int,
    seed: int,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Vocabulary:
    """K clusters of unit conv5_3 features of random ``database`` photos."""
    rng = np.random.default_rng(seed)
    count = min(PHOTOS, len(database))
    chosen = np.sort(rng.choice(len(database), count, replace=False))
    device = next(encoder.parameters()).device
    samples: list[Array] = []
    for done, number in enumerate(chosen.tolist(), start=1):
        frozen = torch.from_numpy(features.batch([database.paths[number]])).to(device)
        with torch.inference_mode():
            maps = encoder(frozen.permute(0, 3, 1, 2))
        cells = maps[0].flatten(1).T.cpu().numpy()
        samples.append(cells[rng.permutation(len(cells))[:FEATURES_A_PHOTO]])
        progress(done, count)
    unit = normalise(np.ascontiguousarray(np.concatenate(samples)))
    if len(unit) < clusters:
        raise UsageError(f"{clusters} clusters need as many features: give more or larger photos")
    return fit_vocabulary(unit, clusters, seed)
