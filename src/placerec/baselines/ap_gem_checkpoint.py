"""The authors' AP-GeM checkpoint (``Resnet101-AP-GeM-LM18.pt``) to a weight file of ours.

Source: deep-image-retrieval, ``dirtorch/utils/common.py``: a ``torch.save`` of a dictionary with
``model_options``, ``state_dict`` (perhaps with ``module.`` before each name), perhaps
``preprocess``, and ``pca``: by data set, a pickled scikit-learn PCA, whose module has had two
names. Such a file is read by PyTorch's restricted reader, which is told to put the plain record
``Pca`` where it finds that one class. NumPy's arrays and numbers are all else that it may hold, and
any other class is refused by name: their program needs none. scikit-learn is neither needed nor
imported, and nothing in the file is run.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from placerec.baselines.ap_gem import METHOD, REMEDY, check
from placerec.baselines.weights import write_weights
from placerec.errors import MissingExtra, UnsafeWeights
from placerec.records import Array
from placerec.trunks.convert import RGB_MEAN, RGB_STD

WHITENING = "Landmarks_clean"  # the one that the authors evaluate with
POWER = 0.25  # of the variances; the authors' --whitenp
ARCHITECTURES = ("resnet101_rmac", "resnet50_rmac")
# The only values of these options that are implemented; all others change no descriptor.
OPTIONS = {"norm_features": False, "without_fc": False, "center_bias": 0, "pooling": "gem"}
LICENCE = "not stated with the weights"
TRAINING_DATA = "as its name says: -LM18 is Google-Landmarks, the others are Landmarks-clean"


class Pca:
    """What stands in for scikit-learn's PCA: its attributes and no methods."""


def convert(source: Path, out: Path, *, real: bool = True) -> str:
    """Write the checkpoint ``source`` as the weights of ``ap-gem`` to ``out``.

    Returns the sha256 of the written file. Raises ``UnsafeWeights`` for anything but such a
    checkpoint, naming what is wrong; then nothing is written. ``real`` is false for seeded weights.
    """
    content = _read(source)
    state = content.get("state_dict")
    if not isinstance(state, Mapping) or not state:
        raise UnsafeWeights(source, "it holds no state_dict", REMEDY)
    _check_options(content.get("model_options"), source)
    tensors: dict[str, Array] = {}
    for key, value in state.items():
        name = str(key).removeprefix("module.")
        if not name.endswith("num_batches_tracked"):
            own = name if name.startswith(("adpool.", "fc.")) else f"encoder.{name}"
            tensors[own] = _floats(value, f"state_dict {name}", source)
    preprocess = content.get("preprocess") or {}
    for name, usual in (("mean", RGB_MEAN), ("std", RGB_STD)):
        told = preprocess.get(name, usual) if isinstance(preprocess, Mapping) else usual
        tensors[name] = _floats(told, f"preprocess {name}", source)
    tensors.update(_whitening(content.get("pca"), source))
    check(tensors, source)
    told = {"licence": LICENCE, "training_data": TRAINING_DATA, "file": source.name,
            "real": "yes" if real else "no"}  # fmt: skip
    return write_weights(METHOD, tensors, told, out)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        import torch
    except ImportError as error:
        raise MissingExtra("weights convert ap-gem", "torch") from error
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_allowed()):
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling raises nearly anything
        why = str(error).rpartition("WeightsUnpickler error: ")[2].strip() or type(error).__name__
        reason = why.splitlines()[0].split(". ")[0][:160]
        raise UnsafeWeights(path, f"PyTorch's safe reader refuses it: {reason}", REMEDY) from error
    if not isinstance(content, Mapping):
        raise UnsafeWeights(path, "it is no dictionary", REMEDY)
    return content


def _allowed() -> list[Any]:
    """What the file may name besides PyTorch's own: the one record, and NumPy's plain data."""
    allowed: list[Any] = [
        (Pca, f"sklearn.decomposition.{module}.PCA") for module in ("pca", "_pca")
    ]
    rebuild = np.zeros(1).__reduce__()[0]
    scalar = np.float64(0).__reduce__()[0]
    for core in ("core", "_core"):
        allowed.append((rebuild, f"numpy.{core}.multiarray._reconstruct"))
        allowed.append((scalar, f"numpy.{core}.multiarray.scalar"))
    kinds = {type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32)}
    return [*allowed, np.ndarray, np.dtype, *kinds]


def _check_options(options: object, path: Path) -> None:
    told = options if isinstance(options, Mapping) else {}
    arch = str(told.get("arch"))[:40]
    if arch not in ARCHITECTURES:
        raise UnsafeWeights(path, f"its network is {arch}, not resnet101_rmac", REMEDY)
    for name, wanted in OPTIONS.items():
        value = str(told.get(name, wanted))[:40]
        if value != str(wanted):
            why = f"its option {name} is {value}, which is not implemented"
            raise UnsafeWeights(path, why, REMEDY)


def _whitening(pca: object, path: Path) -> dict[str, Array]:
    """The PCA as one affine map, or nothing where the checkpoint has none."""
    if pca is None:
        return {}
    records = pca if isinstance(pca, Mapping) else {"": pca}
    only = next(iter(records.values())) if len(records) == 1 else None
    record = records.get(WHITENING, only)
    if not isinstance(record, Pca):
        raise UnsafeWeights(path, f"its pca has no {WHITENING}", REMEDY)
    told = vars(record)
    components, variance = (
        _floats(told.get(name), f"pca {name}", path).astype(np.float64)
        for name in ("components_", "explained_variance_")
    )
    mean = told.get("mean_")
    if components.ndim != 2 or variance.shape != components.shape[:1] or not (variance > 0).all():
        raise UnsafeWeights(path, "its pca has components and variances that do not fit", REMEDY)
    weight = components / variance[:, None] ** POWER if told.get("whiten") is True else components
    bias = np.zeros(len(weight))
    if mean is not None:
        mean = _floats(mean, "pca mean_", path).astype(np.float64)
        if mean.shape != components.shape[1:]:
            raise UnsafeWeights(path, "its pca has a mean that does not fit", REMEDY)
        bias = -weight @ mean
    return {
        "whitening.weight": weight.astype(np.float32),
        "whitening.bias": bias.astype(np.float32),
    }


def _floats(value: object, what: str, path: Path) -> Array:
    """``value`` as a float32 array; numbers of another kind, and objects, are refused."""
    try:
        array = np.asarray(value.detach().numpy() if hasattr(value, "detach") else value)
    except Exception as error:
        raise UnsafeWeights(path, f"{what} is no array", REMEDY) from error
    if array.dtype.kind != "f":
        raise UnsafeWeights(path, f"{what} is no array of floats", REMEDY)
    return np.ascontiguousarray(array, np.float32)
