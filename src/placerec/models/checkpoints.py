"""The published checkpoints: read a ``.pth.tar`` as a model, and write one.

Source: the files of the published program (Patch-NetVLAD, section 4) and of the pytorch-NetVlad
family: a ``torch.save`` of ``{num_pcs, state_dict}`` or of a training state. The keys are
``encoder.N.weight/bias``, ``pool.centroids`` (K, D), ``pool.conv.weight`` (K, D, 1, 1), optional
``pool.conv.bias`` (K,), ``WPCA.0.weight`` (P, K * D, 1, 1) and ``WPCA.0.bias`` (P,).

Such a file is a pickle. Only PyTorch's restricted reader reads it (``trunks.convert.read_torch``).
The name and shape of every tensor are checked before it is converted,
because a small file can claim a huge tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from placerec.errors import MissingExtra, NotFound, UsageError
from placerec.files import atomic_write, file_sha256
from placerec.method.pca import Projection
from placerec.models.model import Fitted, Model
from placerec.models.tensors import Tensors
from placerec.records import Array
from placerec.runtime import DEFAULT_RUNTIME, Runtime
from placerec.settings import METHODS, PublishedSettings
from placerec.trunks.convert import read_torch
from placerec.trunks.vgg16 import VGG16, state_sha256, state_shapes

OLDEST_TORCH = (2, 10)
DEPTH = VGG16.channels
VOCABULARY_NAMES = ("pool.centroids", "pool.conv.weight", "pool.conv.bias")
PROJECTION_NAMES = ("WPCA.0.weight", "WPCA.0.bias")
REMEDY = "give an unchanged checkpoint of a VGG16 NetVLAD"
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
    file, stated_dimensions = _read(path)
    state = {key: file.take(key, shape) for key, shape in state_shapes().items()}
    vocabulary = file.vocabulary(None, DEPTH)
    projection = file.projection(len(vocabulary) * DEPTH)
    if projection is None and stated_dimensions:
        raise file.refused(f"num_pcs is {stated_dimensions}, but WPCA.0.weight is missing")
    if projection and stated_dimensions not in (None, projection.dimensions):
        raise file.refused(
            f"WPCA.0.bias has {projection.dimensions} values, but num_pcs is {stated_dimensions}"
        )
    file.refuse_rest()
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


def _read(path: Path) -> tuple[Tensors, int | None]:
    """Return the tensors of a checkpoint, and ``num_pcs`` if it is stated."""
    torch = _torch()
    content = read_torch(path, path, "give an unchanged .pth.tar of tensors")
    tensors: dict[str, Any] = {}
    file = Tensors(path, tensors, VOCABULARY_NAMES, PROJECTION_NAMES, _float32, REMEDY)
    state = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not state:
        raise file.refused("it has no state_dict")
    names: dict[str, str] = {}
    for name, tensor in state.items():
        # Data-parallel training adds parts named "module".
        key = ".".join(part for part in str(name).split(".") if part != "module")
        if key in tensors:
            raise file.refused(f"{names[key]} and {name} are the same tensor")
        if problem := _problem(torch, tensor):
            raise file.refused(f"{name} {problem}")
        names[key] = str(name)
        # A 1x1 convolution becomes a matrix.
        tensors[key] = tensor[:, :, 0, 0] if tensor.shape[2:] == (1, 1) else tensor
    dimensions = content.get("num_pcs") if state is not content else None
    try:
        return file, None if dimensions is None else _whole_number(dimensions)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise file.refused("num_pcs is not a whole number") from error


def _float32(tensor: Any) -> Array:
    values: Array = tensor.detach().resolve_neg().float().contiguous().numpy()
    return values


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


def _whole_number(value: Any) -> int:
    """Return ``num_pcs`` as an int; the file may state an int, a number or a tensor."""
    number = int(value)
    if number != value:  # also a text of digits
        raise ValueError(value)
    return number


def _settings(clusters: int, projection: Projection | None) -> PublishedSettings:
    if projection is None:
        return PublishedSettings(clusters=clusters, pca_dim=0, patch_sizes=(), candidates=0)
    for preset in METHODS.values():
        if isinstance(preset, PublishedSettings) and preset.pca_dim == projection.dimensions:
            return preset.replace(clusters=clusters)
    return PublishedSettings(clusters=clusters, pca_dim=projection.dimensions)
