"""After the last step: fit the PCA and write the model file.

Source: Patch-NetVLAD, section 3.1: PCA with whitening of global vectors of random database photos.
The same projection serves the patch descriptors.
"""

from __future__ import annotations

import numpy as np

from placerec.method.pca import fit_pca
from placerec.models.model import Fitted, Model
from placerec.records import Array
from placerec.schedule import Schedule
from placerec.settings import named_settings
from placerec.training.datasets import TrainingSet
from placerec.training.network import Network, trained_state
from placerec.training.start import Start
from placerec.training.validation import Describe
from placerec.trunks.vgg16 import VGG16, state_sha256
from placerec.version import __version__

METHOD = "paper-speed"
MODEL = "model.safetensors"
# Added to the licence of the weights.
TERMS = "; the training photos may bring terms of their own"


def pca_vectors(data: TrainingSet, schedule: Schedule, describe: Describe) -> Array:
    """Return global vectors (n, K * 512) of at most ``pca_photos`` random database photos."""
    rng = np.random.default_rng(schedule.seed)
    count = min(schedule.pca_photos, len(data.database))
    chosen = np.sort(rng.choice(len(data.database), count, replace=False))
    return describe([data.database.paths[n] for n in chosen.tolist()])


def trained_model(
    network: Network, start: Start, vectors: Array, schedule: Schedule, data: TrainingSet,
    epoch: int,
) -> Model:  # fmt: skip
    """Return a model of the trained trunk: the speed setting of the paper with this K and PCA."""
    projection = fit_pca(vectors, schedule.pca_dim)
    vocabulary = network.pool.vocabulary()
    state = trained_state(start.trunk.state, network)
    settings = named_settings(METHOD).replace(
        clusters=schedule.clusters, k_patch=schedule.clusters, global_dim=schedule.pca_dim,
        pca_dim=schedule.pca_dim, image_size=schedule.image_size,
    )  # fmt: skip
    return Model(
        f"vgg16 trained on {data.name}", VGG16(state, state_sha256(state)),
        Fitted.shared(vocabulary, projection), settings,
        f"{len(data.queries)} queries and {len(data.database)} database photos of {data.name}, "
        f"epoch {epoch}; PCA fitted on {len(vectors)} of the database photos",
        f"trained by placerec {__version__} from {start.provenance}",
        start.licence.removesuffix(TERMS) + TERMS,
    )  # fmt: skip
