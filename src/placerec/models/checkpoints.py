"""The published checkpoints: ``.pth.tar`` to a model and back.

Source: the published program's files (Patch-NetVLAD, section 4) and the pytorch-NetVlad family that
they come from: a ``torch.save`` of ``{num_pcs, state_dict}`` or of a training state, with the keys
``encoder.N.weight/bias``, ``pool.centroids`` (K, D), ``pool.conv.weight`` (K, D, 1, 1), perhaps
``pool.conv.bias`` (K,), and perhaps ``WPCA.0.weight`` (P, K * D, 1, 1) and ``WPCA.0.bias`` (P,).
Such a file is a pickle, so it is read by PyTorch's restricted reader only (``weights_only``, with
NumPy's plain numbers allowed); there is no other way in. Every tensor is checked by name.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from placerec.errors import MissingExtra, NotFound, UnsafeWeights, UsageError
from placerec.method.pca import Projection
from placerec.method.vlad import Vocabulary
from placerec.models.model import Fitted, Model
from placerec.records import Array
from placerec.settings import METHODS, PAPER, Settings
from placerec.trunks.vgg16 import VGG16, state_sha256, state_shapes
from placerec.whole import whole

OLDEST_TORCH = (2, 10)
DEPTH = VGG16.channels
UNNAMED_LICENCE = "not stated in the file"


def import_checkpoint(
    path: str | Path,
    *,
    name: str | None = None,
    training_data: str = "",
    licence: str = UNNAMED_LICENCE,
    threads: int = 1,
    device: str = "cpu",
) -> Model:
    """The model in the checkpoint ``path``: VGG16, NetVLAD and, where there is one, the PCA.

    Tensors become float32 and stay so. ``name`` defaults to the file's, the settings to those of
    the preset with as many PCA dimensions. Raises ``UnsafeWeights`` for anything that is not such
    a checkpoint, naming the tensor; nothing in the file is run.
    """
    path = Path(path)
    if not path.is_file():
        raise NotFound(path, "no such checkpoint")
    tensors, dimensions = _read(path)
    state = {key: _take(tensors, key, shape, path) for key, shape in state_shapes().items()}
    vocabulary = _vocabulary(tensors, path)
    projection = _projection(tensors, len(vocabulary), dimensions, path)
    if tensors:
        raise UnsafeWeights(path, f"unknown tensor {min(tensors)}", "give a NetVLAD checkpoint")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Model(
        name or path.name.removesuffix(".tar").removesuffix(".pth"),
        VGG16(state, state_sha256(state), threads, device),
        Fitted.shared(vocabulary, projection),
        _settings(len(vocabulary), projection),
        training_data or "not stated in the file",
        f"imported from {path.name}, sha256 {digest}",
        licence,
    )


def export_checkpoint(model: Model, path: str | Path) -> None:
    """Write ``model`` in the published format: beside ``path`` first, then renamed into place.

    Only a model of the published form can be: VGG16, one PCA for photo and patches.
    """
    torch = _torch()
    path, trunk, fitted = Path(path), model.trunk, model.fitted
    if not isinstance(trunk, VGG16) or not model.settings.shared_pca:
        raise UsageError(
            f"model {model.name}: not of the published form (VGG16, one PCA for photo and "
            f"patches), so it cannot be exported; fit one with --method paper-speed, train or "
            f"import one"
        )
    state: dict[str, Array] = dict(trunk.state)
    state["pool.centroids"] = fitted.vocabulary.centres
    state["pool.conv.weight"] = fitted.vocabulary.weights[:, :, None, None]
    if fitted.vocabulary.bias is not None:
        state["pool.conv.bias"] = fitted.vocabulary.bias
    content: dict[str, Any] = {}
    if fitted.projection is not None:
        state["WPCA.0.weight"] = fitted.projection.weight[:, :, None, None]
        state["WPCA.0.bias"] = fitted.projection.bias
        content["num_pcs"] = fitted.projection.dimensions
    content["state_dict"] = {
        key: torch.from_numpy(np.array(tensor, np.float32)) for key, tensor in state.items()
    }
    with whole(path) as partial, partial.open("wb") as file:
        torch.save(content, file)


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise MissingExtra("reading or writing a checkpoint", "torch") from error
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < OLDEST_TORCH:
        raise UsageError(
            f"PyTorch {torch.__version__}: checkpoints are read safely from "
            f"{'.'.join(map(str, OLDEST_TORCH))} on; upgrade it"
        )
    return torch


def _read(path: Path) -> tuple[dict[str, Array], int | None]:
    """Float32 tensors by key without data-parallel parts, and the number of PCA dimensions."""
    torch = _torch()
    scalar = np.float64(0).__reduce__()[0]  # what a pickled NumPy number is made by
    plain_numbers = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    kinds = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32)]
    try:
        with (
            warnings.catch_warnings(),
            torch.serialization.safe_globals([*plain_numbers, np.dtype, *kinds]),
        ):
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling raises nearly anything
        why = str(error).rpartition("WeightsUnpickler error: ")[2].strip() or type(error).__name__
        reason = why.splitlines()[0].split(". ")[0][:160]
        raise UnsafeWeights(
            path, f"PyTorch's safe reader refuses it: {reason}",
            "give an unchanged .pth.tar of tensors",
        ) from error  # fmt: skip
    state = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not state:
        raise UnsafeWeights(path, "it holds no state_dict", "give a NetVLAD checkpoint")
    tensors = {}
    for key, tensor in state.items():
        plain = ".".join(part for part in str(key).split(".") if part != "module")
        tensors[plain] = _as_array(torch, plain, tensor, path)
    told = content.get("num_pcs") if state is not content else None
    return tensors, None if told is None else int(told)


def _as_array(torch: Any, key: str, tensor: Any, path: Path) -> Array:
    if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
        raise UnsafeWeights(path, f"{key} is no tensor of floats", "give a NetVLAD checkpoint")
    array = np.asarray(tensor.detach().to(torch.float32).contiguous().numpy())
    if not np.isfinite(array).all():
        raise UnsafeWeights(path, f"{key} has values that are not finite", "train or get it again")
    return array


def _take(tensors: dict[str, Array], key: str, shape: tuple[int, ...], path: Path) -> Array:
    """The tensor ``key`` of ``shape``, taken out; trailing 1s of a 1x1 convolution are dropped."""
    if key not in tensors:
        raise UnsafeWeights(path, f"{key} is missing", "give a VGG16 NetVLAD checkpoint")
    tensor = tensors.pop(key)
    flat = tensor[:, :, 0, 0] if len(shape) == 2 and tensor.shape[2:] == (1, 1) else tensor
    if flat.shape != shape:
        raise UnsafeWeights(
            path, f"{key} has shape {tensor.shape}, not {shape}", "give a VGG16 NetVLAD checkpoint"
        )
    return np.ascontiguousarray(flat)


def _vocabulary(tensors: dict[str, Array], path: Path) -> Vocabulary:
    clusters = len(tensors.get("pool.centroids", ()))
    centres = _take(tensors, "pool.centroids", (clusters, DEPTH), path)
    weights = _take(tensors, "pool.conv.weight", (clusters, DEPTH), path)
    bias = None
    if "pool.conv.bias" in tensors:
        bias = _take(tensors, "pool.conv.bias", (clusters,), path)
    return Vocabulary(centres, weights, bias)


def _projection(
    tensors: dict[str, Array], clusters: int, told: int | None, path: Path
) -> Projection | None:
    if "WPCA.0.weight" not in tensors and "WPCA.0.bias" not in tensors:
        return None
    dimensions = len(tensors.get("WPCA.0.bias", ()))
    if told is not None and told != dimensions:
        raise UnsafeWeights(
            path, f"WPCA.0.bias has {dimensions} values, but num_pcs is {told}", "get it again"
        )
    weight = _take(tensors, "WPCA.0.weight", (dimensions, clusters * DEPTH), path)
    return Projection(weight, _take(tensors, "WPCA.0.bias", (dimensions,), path))


def _settings(clusters: int, projection: Projection | None) -> Settings:
    if projection is None:
        return PAPER.replace(clusters=clusters, global_dim=0, patch_sizes=(), candidates=0)
    for preset in METHODS.values():
        if preset.shared_pca and preset.global_dim == projection.dimensions:
            return preset.replace(clusters=clusters)
    return PAPER.replace(clusters=clusters, global_dim=projection.dimensions)
