"""The published checkpoints: ``.pth.tar`` to a model and back.

Source: the published program's files (Patch-NetVLAD, section 4) and the pytorch-NetVlad family that
they come from: a ``torch.save`` of ``{num_pcs, state_dict}`` or of a training state, with the keys
``encoder.N.weight/bias``, ``pool.centroids`` (K, D), ``pool.conv.weight`` (K, D, 1, 1), perhaps
``pool.conv.bias`` (K,), and perhaps ``WPCA.0.weight`` (P, K * D, 1, 1) and ``WPCA.0.bias`` (P,).
Such a file is a pickle, so it is read by PyTorch's restricted reader only (``weights_only``, with
NumPy's plain numbers allowed); there is no other way in. Every tensor is checked by name, and its
shape before anything is made of it: a small file can claim a huge tensor.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from placerec.errors import MissingExtra, NotFound, UnsafeWeights, UsageError
from placerec.files import atomic_write
from placerec.method.pca import Projection
from placerec.method.vlad import Vocabulary
from placerec.models.model import Fitted, Model
from placerec.records import Array
from placerec.runtime import Runtime
from placerec.settings import METHODS, PAPER, Settings
from placerec.trunks.vgg16 import VGG16, state_sha256, state_shapes

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
    found = _read(path)
    state = {key: found.take(key, shape) for key, shape in state_shapes().items()}
    vocabulary = _vocabulary(found)
    projection = _projection(found, len(vocabulary))
    if found.tensors:
        raise found.refused(f"unknown tensor {min(found.tensors)}")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Model(
        name or path.name.removesuffix(".tar").removesuffix(".pth"),
        VGG16(state, state_sha256(state), Runtime(threads=threads, device=device)),
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
    with atomic_write(path) as partial, partial.open("wb") as file:
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


@dataclass(frozen=True, slots=True)
class _Found:
    """What a checkpoint holds: torch tensors by key, without data-parallel parts, and ``num_pcs``.

    A tensor that is taken leaves ``tensors``; what is left in the end is unknown.
    """

    path: Path
    tensors: dict[str, Any]
    stated_dimensions: int | None

    def refused(self, why: str, remedy: str = "give a VGG16 NetVLAD checkpoint") -> UnsafeWeights:
        """The error that says ``why``."""
        return UnsafeWeights(self.path, why, remedy)

    def count(self, key: str) -> int:
        """The length of the tensor ``key``: its number of clusters or of dimensions."""
        if key not in self.tensors:
            raise self.refused(f"{key} is missing")
        shape = tuple(self.tensors[key].shape)
        if not shape or not shape[0]:
            raise self.refused(f"{key} has shape {shape}: it holds nothing")
        return int(shape[0])

    def take(self, key: str, shape: tuple[int, ...]) -> Array:
        """The tensor ``key`` of ``shape`` as float32; a 1x1 convolution loses its two 1s."""
        if key not in self.tensors:
            raise self.refused(f"{key} is missing")
        tensor = self.tensors.pop(key)
        have = tuple(tensor.shape)
        plain = have[:2] if len(shape) == 2 and have[2:] == (1, 1) else have
        if plain != shape:
            raise self.refused(f"{key} has shape {have}, not {shape}")
        try:  # doubles beyond the range of float32 become infinite here, and are refused below
            plainest = tensor.detach().resolve_neg().float().contiguous().numpy()
        except (RuntimeError, TypeError) as error:  # of a kind that PyTorch itself cannot convert
            raise self.refused(f"{key} cannot be read as float32 ({tensor.dtype})") from error
        array = np.asarray(plainest).reshape(shape)
        if not np.isfinite(array).all():
            raise self.refused(f"{key} has values that are not finite", "train or get it again")
        return array


def _read(path: Path) -> _Found:
    torch = _torch()
    content = _unpickled(torch, path)
    state = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not state:
        raise UnsafeWeights(path, "it holds no state_dict", "give a NetVLAD checkpoint")
    names: dict[str, str] = {}
    tensors: dict[str, Any] = {}
    for name, tensor in state.items():
        key = ".".join(part for part in str(name).split(".") if part != "module")
        if key in tensors:
            raise UnsafeWeights(
                path, f"{names[key]} and {name} are one tensor twice", "keep the one that is meant"
            )
        if why := _unusable(torch, tensor):
            raise UnsafeWeights(path, f"{name} {why}", "give a NetVLAD checkpoint")
        names[key], tensors[key] = str(name), tensor
    told = content.get("num_pcs") if state is not content else None
    return _Found(path, tensors, _whole_number(told, path))


def _unpickled(torch: Any, path: Path) -> Any:
    """What PyTorch's restricted reader makes of the file."""
    scalar = np.float64(0).__reduce__()[0]  # what a pickled NumPy number is made by
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


def _unusable(torch: Any, tensor: Any) -> str:
    """Why a value of a state is no plain tensor of floats that is in the file; else nothing."""
    if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
        return "is no tensor of floats"
    if tensor.layout != torch.strided or tensor.is_nested:
        return "is no plain tensor, but a sparse or nested one"
    if tensor.device.type != "cpu":
        return f"has no values (device {tensor.device.type})"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return f"has shape {tuple(tensor.shape)}, and fewer values than that"
    return ""


def _whole_number(told: Any, path: Path) -> int | None:
    """``num_pcs`` as the file states it: an int, or a number or tensor that equals one."""
    if told is None:
        return None
    try:
        number = int(told)
        if number == told:
            return number
    except (TypeError, ValueError, OverflowError, RuntimeError):  # text, a list, NaN, a tensor
        pass
    raise UnsafeWeights(path, "num_pcs is not a whole number", "get it again")


def _vocabulary(found: _Found) -> Vocabulary:
    clusters = found.count("pool.centroids")
    centres = found.take("pool.centroids", (clusters, DEPTH))
    weights = found.take("pool.conv.weight", (clusters, DEPTH))
    bias = None
    if "pool.conv.bias" in found.tensors:
        bias = found.take("pool.conv.bias", (clusters,))
    return Vocabulary(centres, weights, bias)


def _projection(found: _Found, clusters: int) -> Projection | None:
    told = found.stated_dimensions
    if not {"WPCA.0.weight", "WPCA.0.bias"} & found.tensors.keys():
        if told:
            raise found.refused(
                f"num_pcs is {told}, but WPCA.0.weight and WPCA.0.bias are missing", "get it again"
            )
        return None
    dimensions = found.count("WPCA.0.bias")
    if told is not None and told != dimensions:
        raise found.refused(
            f"WPCA.0.bias has {dimensions} values, but num_pcs is {told}", "get it again"
        )
    weight = found.take("WPCA.0.weight", (dimensions, clusters * DEPTH))
    return Projection(weight, found.take("WPCA.0.bias", (dimensions,)))


def _settings(clusters: int, projection: Projection | None) -> Settings:
    if projection is None:
        return PAPER.replace(clusters=clusters, global_dim=0, patch_sizes=(), candidates=0)
    for preset in METHODS.values():
        if preset.shared_pca and preset.global_dim == projection.dimensions:
            return preset.replace(clusters=clusters)
    return PAPER.replace(clusters=clusters, global_dim=projection.dimensions)
