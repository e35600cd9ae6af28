"""The published checkpoints: read a ``.pth.tar`` as a model, and write one.

Source: the files of the published program (Patch-NetVLAD, section 4) and of the pytorch-NetVlad
family: a ``torch.save`` of ``{num_pcs, state_dict}`` or of a training state. The keys are
``encoder.N.weight/bias``, ``pool.centroids`` (K, D), ``pool.conv.weight`` (K, D, 1, 1), optional
``pool.conv.bias`` (K,), ``WPCA.0.weight`` (P, K * D, 1, 1) and ``WPCA.0.bias`` (P,).

Such a file is a pickle. Only PyTorch's restricted reader reads it (``weights_only``, with NumPy's
plain numbers allowed). The name and shape of every tensor are checked before it is converted,
because a small file can claim a huge tensor.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from placerec.errors import MissingExtra, NotFound, UnsafeWeights, UsageError
from placerec.files import atomic_write, file_sha256
from placerec.method.pca import Projection
from placerec.method.vlad import Vocabulary
from placerec.models.model import Fitted, Model
from placerec.records import Array
from placerec.runtime import DEFAULT_RUNTIME, Runtime
from placerec.settings import METHODS, PublishedSettings
from placerec.trunks.vgg16 import VGG16, state_sha256, state_shapes

OLDEST_TORCH = (2, 10)
DEPTH = VGG16.channels
UNNAMED_LICENCE = UNNAMED_DATA = "not stated in the file"


def import_checkpoint(
    path: str | Path,
    *,
    name: str | None = None,
    training_data: str = "",
    licence: str = UNNAMED_LICENCE,
    runtime: Runtime = DEFAULT_RUNTIME,
) -> Model:
    """Return the model in the checkpoint ``path``: VGG16, NetVLAD and, if present, the PCA.

    Tensors become float32 and stay float32. The default of ``name`` is the file name. The settings
    are those of the preset with as many PCA dimensions. Raises ``UnsafeWeights`` with the name of
    the tensor if the file is not such a checkpoint. Nothing in the file is run.
    """
    path = Path(path)
    if not path.is_file():
        raise NotFound(path, "no such checkpoint")
    checkpoint = _read(path)
    state = {key: checkpoint.take(key, shape) for key, shape in state_shapes().items()}
    vocabulary = _vocabulary(checkpoint)
    projection = _projection(checkpoint, len(vocabulary))
    if checkpoint.tensors:
        raise checkpoint.refused(f"unknown tensor {min(checkpoint.tensors)}")
    return Model(
        name or path.name.removesuffix(".tar").removesuffix(".pth"),
        VGG16(state, state_sha256(state), runtime),
        Fitted.shared(vocabulary, projection),
        _settings(len(vocabulary), projection),
        training_data or UNNAMED_DATA,
        f"imported from {path.name}, sha256 {file_sha256(path)}",
        licence,
    )


def export_checkpoint(model: Model, path: str | Path) -> None:
    """Write ``model`` in the published format, atomically.

    The model must have the published form: VGG16, and one PCA for the photo and its patches.
    """
    torch = _torch()
    path, trunk, fitted = Path(path), model.trunk, model.fitted
    if not isinstance(trunk, VGG16) or model.settings.form != "published":
        raise UsageError(
            f"model {model.name}: it does not have the published form (VGG16, one PCA for the "
            f"photo and its patches), so it cannot be exported; fit a model with the method "
            f"paper-speed, or train or import one"
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
    with atomic_write(path) as partial, partial.open("wb") as file:
        torch.save(content, file)


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise MissingExtra("reading or writing a checkpoint", "torch") from error
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < OLDEST_TORCH:
        oldest = ".".join(map(str, OLDEST_TORCH))
        raise UsageError(
            f"PyTorch {torch.__version__}: it cannot read checkpoints safely; upgrade to {oldest} "
            f"or newer"
        )
    return torch


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    """The content of a checkpoint: torch tensors by key, and ``num_pcs`` if it is stated.

    ``take`` removes a tensor from ``tensors``, so the remaining tensors are unknown.
    """

    path: Path
    tensors: dict[str, Any]
    stated_dimensions: int | None

    def refused(self, why: str, remedy: str = "give a VGG16 NetVLAD checkpoint") -> UnsafeWeights:
        """Return the error with the reason ``why``."""
        return UnsafeWeights(self.path, why, remedy)

    def count(self, key: str) -> int:
        """Return the length of the tensor ``key``: its number of clusters or of dimensions."""
        if key not in self.tensors:
            raise self.refused(f"{key} is missing")
        shape = tuple(self.tensors[key].shape)
        if not shape or not shape[0]:
            raise self.refused(f"{key} has shape {shape}: it is empty")
        return int(shape[0])

    def take(self, key: str, shape: tuple[int, ...]) -> Array:
        """Remove the tensor ``key`` and return it as float32; a 1x1 convolution is flattened."""
        if key not in self.tensors:
            raise self.refused(f"{key} is missing")
        tensor = self.tensors.pop(key)
        stored = tuple(tensor.shape)
        flat = stored[:2] if len(shape) == 2 and stored[2:] == (1, 1) else stored
        if flat != shape:
            raise self.refused(f"{key} has shape {stored}, not {shape}")
        try:  # doubles beyond the range of float32 become infinite, and are refused below
            values = tensor.detach().resolve_neg().float().contiguous().numpy()
        except (RuntimeError, TypeError) as error:  # a type that PyTorch itself cannot convert
            raise self.refused(f"{key} cannot be read as float32 ({tensor.dtype})") from error
        array = np.asarray(values).reshape(shape)
        if not np.isfinite(array).all():
            raise self.refused(
                f"{key} has values that are not finite", "train or download it again"
            )
        return array


def _read(path: Path) -> _Checkpoint:
    torch = _torch()
    content = _unpickled(torch, path)
    state = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not state:
        raise UnsafeWeights(path, "it has no state_dict", "give a NetVLAD checkpoint")
    names: dict[str, str] = {}
    tensors: dict[str, Any] = {}
    for name, tensor in state.items():
        # Data-parallel training adds parts named "module".
        key = ".".join(part for part in str(name).split(".") if part != "module")
        if key in tensors:
            raise UnsafeWeights(
                path, f"{names[key]} and {name} are the same tensor", "remove one of the two"
            )
        if problem := _problem(torch, tensor):
            raise UnsafeWeights(path, f"{name} {problem}", "give a NetVLAD checkpoint")
        names[key], tensors[key] = str(name), tensor
    dimensions = content.get("num_pcs") if state is not content else None
    return _Checkpoint(path, tensors, _whole_number(dimensions, path))


def _unpickled(torch: Any, path: Path) -> Any:
    """Return the content of the file as PyTorch's restricted reader gives it."""
    scalar = np.float64(0).__reduce__()[0]  # the function that makes a pickled NumPy number
    plain_numbers = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    kinds = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32)]
    try:
        with (
            warnings.catch_warnings(),
            torch.serialization.safe_globals([*plain_numbers, np.dtype, *kinds]),
        ):
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling raises nearly anything
        why = str(error).rpartition("WeightsUnpickler error: ")[2].strip() or type(error).__name__
        reason = why.splitlines()[0].split(". ")[0][:160]
        raise UnsafeWeights(
            path, f"PyTorch's safe reader refuses it: {reason}",
            "give an unchanged .pth.tar of tensors",
        ) from error  # fmt: skip


def _problem(torch: Any, tensor: Any) -> str:
    """Say why a value is not a plain tensor of floats in the file; an empty text if it is."""
    if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
        return "is not a tensor of floats"
    if tensor.layout != torch.strided or tensor.is_nested:
        return "is not a plain tensor, but a sparse or nested one"
    if tensor.device.type != "cpu":
        return f"has no values (device {tensor.device.type})"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return f"has shape {tuple(tensor.shape)}, but fewer values"
    return ""


def _whole_number(value: Any, path: Path) -> int | None:
    """Return ``num_pcs`` as an int; the file may state an int, a number or a tensor."""
    if value is None:
        return None
    try:
        number = int(value)
        if number == value:
            return number
    except (TypeError, ValueError, OverflowError, RuntimeError):  # text, a list, NaN, a tensor
        pass
    raise UnsafeWeights(path, "num_pcs is not a whole number", "download it again")


def _vocabulary(checkpoint: _Checkpoint) -> Vocabulary:
    clusters = checkpoint.count("pool.centroids")
    centres = checkpoint.take("pool.centroids", (clusters, DEPTH))
    weights = checkpoint.take("pool.conv.weight", (clusters, DEPTH))
    bias = None
    if "pool.conv.bias" in checkpoint.tensors:
        bias = checkpoint.take("pool.conv.bias", (clusters,))
    return Vocabulary(centres, weights, bias)


def _projection(checkpoint: _Checkpoint, clusters: int) -> Projection | None:
    stated = checkpoint.stated_dimensions
    if not {"WPCA.0.weight", "WPCA.0.bias"} & checkpoint.tensors.keys():
        if stated:
            why = f"num_pcs is {stated}, but WPCA.0.weight and WPCA.0.bias are missing"
            raise checkpoint.refused(why, "download it again")
        return None
    dimensions = checkpoint.count("WPCA.0.bias")
    if stated is not None and stated != dimensions:
        why = f"WPCA.0.bias has {dimensions} values, but num_pcs is {stated}"
        raise checkpoint.refused(why, "download it again")
    weight = checkpoint.take("WPCA.0.weight", (dimensions, clusters * DEPTH))
    return Projection(weight, checkpoint.take("WPCA.0.bias", (dimensions,)))


def _settings(clusters: int, projection: Projection | None) -> PublishedSettings:
    if projection is None:
        return PublishedSettings(clusters=clusters, pca_dim=0, patch_sizes=(), candidates=0)
    for preset in METHODS.values():
        if isinstance(preset, PublishedSettings) and preset.pca_dim == projection.dimensions:
            return preset.replace(clusters=clusters)
    return PublishedSettings(clusters=clusters, pca_dim=projection.dimensions)
