"""Before the first step: cluster centres and assignment weights from the photos themselves.

Source: NetVLAD, CVPR 2016, section 3.1, as the published program does it: 100 features of each of
500 random database photos, k-means, and alpha such that on average the best cluster gets 100 times
the weight of the second (``method.vlad.fit_vocabulary``).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from placerec.errors import UsageError
from placerec.evaluation.dataset import Photos
from placerec.method.vlad import Vocabulary, fit_vocabulary, normalise
from placerec.models.model_file import load_model
from placerec.records import Array
from placerec.training.features import FrozenFeatures
from placerec.trunks.convert import SOURCES
from placerec.trunks.vgg16 import VGG16

PHOTOS = 500
FEATURES_A_PHOTO = 100


class Start(NamedTuple):
    """What a training begins from; ``provenance`` and ``licence`` are of the weights."""

    trunk: VGG16
    vocabulary: Vocabulary | None
    provenance: str
    licence: str


def starting_model(path: Path | None) -> Start:
    """Where a training begins: a model file's trunk and clusters, or VGG16 of the cache folder."""
    if path is None:
        trunk = VGG16.from_cache()
        return Start(trunk, None, *recorded(trunk))
    model = load_model(path)
    if not isinstance(model.trunk, VGG16):
        raise UsageError(f"{path}: its trunk is {model.trunk.name}; only vgg16 can be trained")
    provenance, licence = recorded(model.trunk)
    return Start(
        model.trunk, model.fitted.vocabulary,
        f"{model.name} ({model.provenance or provenance})", model.licence or licence,
    )  # fmt: skip


def recorded(trunk: VGG16) -> tuple[str, str]:
    """Provenance and licence of a trunk's weights, as far as they are known from itself."""
    if trunk.own:
        provenance, licence = f"{trunk.name} {trunk.sha256[:12]}, origin not stated", "not stated"
    else:
        source = SOURCES[trunk.name]
        provenance = f"{trunk.name} of {source.package}, sha256 {source.sha256[:12]}"
        licence = source.licence
    return provenance, f"the trunk's weights: {licence}"


def check_clusters(database: Photos, cells: int, clusters: int) -> None:
    """Refuse more clusters than photos of so many ``cells`` can give features."""
    samples = min(PHOTOS, len(database)) * min(FEATURES_A_PHOTO, cells)
    if samples < clusters:
        raise UsageError(
            f"{clusters} clusters need as many features, and {len(database)} photos give "
            f"{samples}: give more or larger photos"
        )


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
    return fit_vocabulary(unit, clusters, seed)
