"""The model before and after a training: its start, the first clusters, the PCA, the model file.

Clusters: NetVLAD, CVPR 2016, section 3.1, as in the published program: 100 features of each of 500
random database photos, then k-means. Alpha is set so that on average the best cluster gets 100
times the weight of the second (``method.vlad.fit_vocabulary``). PCA: Patch-NetVLAD, section 3.1,
with whitening of global vectors of random database photos; it also serves the patch descriptors.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from placerec.errors import UsageError
from placerec.method.pca import fit_pca
from placerec.method.vlad import Vocabulary, fit_vocabulary, normalise
from placerec.models.model import Fitted, Model
from placerec.models.model_file import load_model
from placerec.records import Array
from placerec.runtime import Progress, no_progress
from placerec.schedule import Schedule
from placerec.settings import METHODS
from placerec.training.datasets import TrainingSet
from placerec.training.network import CELL, FrozenFeatures, Network, trained_state
from placerec.training.validation import Describe
from placerec.trunks.convert import SOURCES
from placerec.trunks.vgg16 import VGG16, state_sha256
from placerec.version import __version__

METHOD = METHODS["paper-speed"]
PHOTOS = 500  # for the clusters
FEATURES_PER_PHOTO = 100
READ_AT_ONCE = 20
# Added to the licence of the weights.
TERMS = "; the training photos may bring terms of their own"


@dataclass(frozen=True, slots=True)
class Start:
    """What a training begins from. Without ``vocabulary``, k-means computes the clusters.

    ``provenance`` and ``licence`` describe the weights.
    """

    trunk: VGG16
    vocabulary: Vocabulary | None
    provenance: str
    licence: str


def starting_model(path: str | Path | None = None) -> Start:
    """Return the trunk and the clusters of a model file, or the VGG16 of the cache folder."""
    if path is None:
        return start_from(VGG16.from_cache())
    model = load_model(path)
    if not isinstance(model.trunk, VGG16):
        raise UsageError(f"{path}: its trunk is {model.trunk.name}; only vgg16 can be trained")
    start = start_from(model.trunk)
    return replace(
        start,
        vocabulary=model.fitted.vocabulary,
        provenance=f"{model.name} ({model.provenance or start.provenance})",
        licence=model.licence or start.licence,
    )


def start_from(trunk: VGG16) -> Start:
    """Return a start from ``trunk`` alone, with the provenance and licence of its weights."""
    provenance, licence = f"{trunk.name} {trunk.sha256[:12]}, origin not stated", "not stated"
    if not trunk.own:
        source = SOURCES[trunk.name]
        provenance = f"{trunk.name} of {source.package}, sha256 {source.sha256[:12]}"
        licence = source.licence
    return Start(trunk, None, provenance, f"the trunk's weights: {licence}")


def check_amounts(schedule: Schedule, photos: int) -> None:
    """Raise ``UsageError`` if ``photos`` database photos are too few for the clusters or the PCA.

    The PCA is fitted after the training, so this check runs before it.
    """
    height, width = schedule.image_size
    cells = (height // CELL) * (width // CELL)
    samples = min(PHOTOS, photos) * min(FEATURES_PER_PHOTO, cells)
    if samples < schedule.clusters:
        raise UsageError(
            f"clusters {schedule.clusters}: as many features are needed, and {photos} photos give "
            f"{samples}; use more or larger photos"
        )
    samples, values = min(photos, schedule.pca_photos), schedule.clusters * VGG16.channels
    if schedule.pca_dim > min(samples - 1, values):
        raise UsageError(
            f"pca_dim {schedule.pca_dim}: {samples} database photos with {values} values each "
            f"allow at most {min(samples - 1, values)}; use a smaller pca_dim"
        )


def start_vocabulary(
    data: TrainingSet,
    features: FrozenFeatures,
    encoder: nn.Sequential,
    schedule: Schedule,
    progress: Progress = no_progress,
) -> Vocabulary:
    """Return K clusters of the unit conv5_3 features of random database photos."""
    rng = np.random.default_rng(schedule.seed)
    photos = _random_photos(data, PHOTOS, rng)
    samples: list[Array] = []
    for first in range(0, len(photos), READ_AT_ONCE):
        for frozen in features.there(photos[first : first + READ_AT_ONCE]):
            with torch.inference_mode():
                cells = encoder(frozen[None])[0].flatten(1).T.cpu().numpy()
            samples.append(cells[rng.permutation(len(cells))[:FEATURES_PER_PHOTO]])
        progress("reading photos for the clusters", len(samples), len(photos))
    unit = normalise(np.ascontiguousarray(np.concatenate(samples)))
    return fit_vocabulary(unit, schedule.clusters, schedule.seed)


def trained_model(
    network: Network, start: Start, describe: Describe, schedule: Schedule, data: TrainingSet,
    epoch: int,
) -> Model:  # fmt: skip
    """Return a model of the trained trunk: the speed setting of the paper with this K and PCA.

    The PCA is fitted on the global vectors of at most ``pca_photos`` random database photos.
    """
    photos = _random_photos(data, schedule.pca_photos, np.random.default_rng(schedule.seed))
    projection = fit_pca(describe(photos), schedule.pca_dim)
    vocabulary = network.pool.vocabulary()
    state = trained_state(start.trunk.state, network)
    settings = METHOD.replace(
        clusters=schedule.clusters, k_patch=schedule.clusters, global_dim=schedule.pca_dim,
        pca_dim=schedule.pca_dim, image_size=schedule.image_size,
    )  # fmt: skip
    return Model(
        f"vgg16 trained on {data.name}", VGG16(state, state_sha256(state)),
        Fitted.shared(vocabulary, projection), settings,
        f"{len(data.queries)} queries and {len(data.database)} database photos of {data.name}, "
        f"epoch {epoch}; PCA fitted on {len(photos)} of the database photos",
        f"trained by placerec {__version__} from {start.provenance}",
        start.licence.removesuffix(TERMS) + TERMS,
    )  # fmt: skip


def _random_photos(data: TrainingSet, count: int, rng: np.random.Generator) -> list[Path]:
    """Return at most ``count`` database photos, in the order of the database."""
    photos = data.database.paths
    chosen = rng.choice(len(photos), min(count, len(photos)), replace=False)
    return [photos[n] for n in np.sort(chosen).tolist()]
