"""After the last step: the PCA, and the model file.

Source: Patch-NetVLAD, section 3.1: PCA with whitening of global vectors of random database photos.
The same projection serves the patch descriptors.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from placerec.method.pca import fit_pca
from placerec.models.model import Fitted, Model
from placerec.models.model_file import save_model
from placerec.records import Array
from placerec.settings import named_settings
from placerec.training.mining import Describe
from placerec.training.network import Network, trained_state
from placerec.training.schedule import Schedule
from placerec.training.sets import TrainingSet
from placerec.trunks.vgg16 import VGG16, state_sha256
from placerec.version import __version__

METHOD = "paper-speed"
MODEL = "model.safetensors"
TERMS = "; the training photos may bring terms of their own"  # to the licence of the weights


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a model comes from, for people.

    ``provenance`` and ``licence`` are of the weights that the training began from.
    """

    name: str
    training_data: str
    provenance: str
    licence: str


def pca_vectors(data: TrainingSet, schedule: Schedule, describe: Describe) -> Array:
    """Global vectors (n, K * 512) of at most ``pca_photos`` random database photos."""
    rng = np.random.default_rng(schedule.seed)
    count = min(schedule.pca_photos, len(data.database))
    chosen = np.sort(rng.choice(len(data.database), count, replace=False))
    return describe([data.database.paths[n] for n in chosen.tolist()])


def trained_model(
    network: Network, frozen: VGG16, vectors: Array, schedule: Schedule, origin: Origin
) -> Model:
    """A model of the trained trunk: the paper's speed setting with this K and PCA."""
    projection = fit_pca(vectors, schedule.pca_dim)
    vocabulary = network.pool.vocabulary()
    state = trained_state(frozen.state, network)
    settings = named_settings(METHOD).replace(
        clusters=schedule.clusters, k_patch=schedule.clusters, global_dim=schedule.pca_dim,
        pca_dim=schedule.pca_dim, image_size=schedule.image_size,
    )  # fmt: skip
    return Model(
        origin.name, VGG16(state, state_sha256(state)),
        Fitted(None, vocabulary, projection, vocabulary, projection), settings,
        f"{origin.training_data}; PCA fitted on {len(vectors)} of the database photos",
        f"trained by placerec {__version__} from {origin.provenance}",
        origin.licence.removesuffix(TERMS) + TERMS,
    )  # fmt: skip


def write_model(model: Model, folder: Path) -> None:
    """Write ``folder/model.safetensors``."""
    save_model(model, folder / MODEL)
