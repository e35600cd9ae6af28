"""Convert the authors' AP-GeM checkpoint (``Resnet101-AP-GeM-LM18.pt``) to a weight file.

Source: deep-image-retrieval, ``dirtorch/utils/common.py``. The checkpoint is a ``torch.save`` of a
dictionary with ``model_options``, ``state_dict`` (names with or without ``module.``), optionally
``preprocess``, and ``pca``: a pickled scikit-learn PCA per data set, whose module has had two
names. PyTorch's restricted reader reads it and puts the plain record ``Pca`` in place of this one
class. All other content must be NumPy arrays and numbers. Any other class is refused by name. The
conversion does not import scikit-learn and runs no code of the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from placerec.baselines.ap_gem import METHOD, REMEDY, check
from placerec.baselines.weights import write_weights
from placerec.errors import UnsafeWeights
from placerec.records import Array
from placerec.trunks.convert import RGB_MEAN, RGB_STD, read_torch

WHITENING = "Landmarks_clean"  # the PCA of the authors' evaluation
POWER = 0.25  # of the variances; the authors' --whitenp
ARCHITECTURES = ("resnet101_rmac", "resnet50_rmac")
# Only these values are implemented. No other option changes a descriptor.
OPTIONS = {"norm_features": False, "without_fc": False, "center_bias": 0, "pooling": "gem"}
LICENCE = "not stated with the weights"
TRAINING_DATA = "as its name says: -LM18 is Google-Landmarks, the others are Landmarks-clean"


class Pca:
    """Replaces scikit-learn's PCA: its attributes, without methods."""


def convert(source: str | Path, out: str | Path, *, real: bool = True) -> str:
    """Write the checkpoint ``source`` as the weights of ``ap-gem`` to ``out``.

    Returns the sha256 (hex) of the written file. Raises ``UnsafeWeights`` with the reason if
    ``source`` is not such a checkpoint; then nothing is written. ``real`` is false for seeded
    weights.
    """
    source, out = Path(source), Path(out)
    classes = [(Pca, f"sklearn.decomposition.{module}.PCA") for module in ("pca", "_pca")]
    content = read_torch(source, source, REMEDY, *classes)
    state = content.get("state_dict") if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not state:
        raise UnsafeWeights(source, "it has no state_dict", REMEDY)
    _check_options(content.get("model_options"), source)
    tensors: dict[str, Array] = {}
    for key, value in state.items():
        name = str(key).removeprefix("module.")
        if not name.endswith("num_batches_tracked"):
            prefix = "" if name.startswith(("adpool.", "fc.")) else "encoder."
            tensors[f"{prefix}{name}"] = _floats(value, f"state_dict {name}", source)
    preprocess = content.get("preprocess")
    for name, default in (("mean", RGB_MEAN), ("std", RGB_STD)):
        value = preprocess.get(name, default) if isinstance(preprocess, Mapping) else default
        tensors[name] = _floats(value, f"preprocess {name}", source)
    tensors.update(_whitening(content.get("pca"), source))
    check(tensors, source)
    header = {"licence": LICENCE, "training_data": TRAINING_DATA, "file": source.name,
              "real": "yes" if real else "no"}  # fmt: skip
    return write_weights(METHOD, tensors, header, out)


def _check_options(options: object, path: Path) -> None:
    values = options if isinstance(options, Mapping) else {}
    architecture = str(values.get("arch"))[:40]
    if architecture not in ARCHITECTURES:
        raise UnsafeWeights(path, f"its network is {architecture}, not resnet101_rmac", REMEDY)
    for name, implemented in OPTIONS.items():
        value = str(values.get(name, implemented))[:40]
        if value != str(implemented):
            raise UnsafeWeights(path, f"option {name} {value} is not implemented", REMEDY)


def _whitening(pca: object, path: Path) -> dict[str, Array]:
    """Return the PCA as one affine map, or nothing if the checkpoint has none."""
    if pca is None:
        return {}
    records = pca if isinstance(pca, Mapping) else {"": pca}
    only = next(iter(records.values())) if len(records) == 1 else None
    record = records.get(WHITENING, only)
    if not isinstance(record, Pca):
        raise UnsafeWeights(path, f"its pca has no {WHITENING}", REMEDY)
    values = vars(record)
    components, variance = (
        _floats(values.get(name), f"pca {name}", path).astype(np.float64)
        for name in ("components_", "explained_variance_")
    )
    if components.ndim != 2 or variance.shape != components.shape[:1] or not (variance > 0).all():
        raise UnsafeWeights(path, "components and variances of its pca do not fit", REMEDY)
    weight = components / variance[:, None] ** POWER if values.get("whiten") is True else components
    bias = np.zeros(len(weight))
    if values.get("mean_") is not None:
        mean = _floats(values["mean_"], "pca mean_", path).astype(np.float64)
        if mean.shape != components.shape[1:]:
            raise UnsafeWeights(path, "its pca has a mean that does not fit", REMEDY)
        bias = -weight @ mean
    return {
        "whitening.weight": weight.astype(np.float32),
        "whitening.bias": bias.astype(np.float32),
    }


def _floats(value: object, what: str, path: Path) -> Array:
    """Return ``value`` as a float32 array; refuse other types of numbers, and objects."""
    try:
        array = np.asarray(value.detach().numpy() if hasattr(value, "detach") else value)
    except Exception as error:
        raise UnsafeWeights(path, f"{what} is not an array", REMEDY) from error
    if array.dtype.kind != "f":
        raise UnsafeWeights(path, f"{what} is not an array of floats", REMEDY)
    return np.ascontiguousarray(array, np.float32)
