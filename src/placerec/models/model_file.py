"""Model files: fitted tensors as float32 safetensors, with who made them and of what.

The same bytes are a file (``placerec fit --out MODEL.safetensors``) and the model inside an index.
A file names its trunk by name and sha256 and carries the settings that it was fitted for, its
training data, provenance and licence, and the sha256 of its tensors. The tensors of an imported or
trained VGG16 (``encoder.*``) travel in it. Loading runs no code; missing, extra, misshapen and
non-finite tensors are refused by name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import numpy as np

from placerec.errors import NotFound, UnsafeWeights, UsageError
from placerec.files import atomic_write
from placerec.method.pca import Projection
from placerec.method.vlad import Vocabulary
from placerec.models.model import Fitted, Model, fitted_tensors
from placerec.records import Array
from placerec.runtime import Runtime
from placerec.settings import Settings
from placerec.trunks import TRUNKS, Trunk, open_trunk
from placerec.trunks.vgg16 import VGG16, state_sha256, state_shapes

FORMAT = "placerec-model-1"
LONGEST_HEADER = 1 << 20  # bytes
REQUIRED = ("format", "name", "trunk", "trunk_sha256", "settings", "training_data")
CHECKPOINT_ENDINGS = (".pth", ".pt", ".tar", ".ckpt")  # of what ``weights import`` reads
CHECKPOINT_STARTS = (b"PK", b"\x80")  # a zip archive, a pickle


def save_model(model: Model, path: Path) -> None:
    """Write ``model`` to ``path``, as a whole or not at all."""
    with atomic_write(path) as partial:
        partial.write_bytes(model_bytes(model))


def load_model(path: Path, threads: int = 1, device: str = "cpu") -> Model:
    """The model in the file ``path``, with its trunk opened by name."""
    _refuse_missing(path)
    return model_from_bytes(path.read_bytes(), path, threads=threads, device=device)


def read_header(path: Path) -> dict[str, str]:
    """What the model file ``path`` says of itself, from its header alone."""
    _refuse_missing(path)
    with path.open("rb") as file:
        start = file.read(8)
        header = file.read(min(int.from_bytes(start, "little"), LONGEST_HEADER))
    return _metadata(start + header, path)


def read_settings(path: Path) -> Settings:
    """The settings that the model file ``path`` was fitted for, from its header alone."""
    return parsed_settings(read_header(path)["settings"], path)


def parsed_settings(text: str, origin: Path) -> Settings:
    """Settings from JSON; ``UnsafeWeights`` where there are others or none, naming ``origin``."""
    try:
        settings = Settings.from_json(text)
        wrong = _of_wrong_type(settings)
    except (
        UsageError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        RecursionError,
    ) as error:
        wrong = str(error) or type(error).__name__
    else:
        if not wrong:
            return settings
    raise UnsafeWeights(
        origin, f"its settings cannot be read: {wrong:.200}", "make it again with this version"
    )


def model_bytes(model: Model) -> bytes:
    """``model`` as safetensors, without its trunk unless that is a VGG16 of its own."""
    from safetensors.numpy import save

    carried = model.trunk.state if isinstance(model.trunk, VGG16) and model.trunk.own else {}
    tensors = {
        name: np.ascontiguousarray(tensor, np.float32)
        for name, tensor in {**carried, **fitted_tensors(model.fitted)}.items()
    }
    metadata = {
        "format": FORMAT, "name": model.name, "trunk": model.trunk.name,
        "trunk_sha256": model.trunk.sha256, "settings": model.settings.to_json(),
        "training_data": model.training_data, "provenance": model.provenance,
        "licence": model.licence, "sha256": tensors_sha256(tensors),
    }  # fmt: skip
    encoded: bytes = save(tensors, metadata)
    return encoded


def model_from_bytes(
    data: bytes,
    origin: Path,
    trunk: Trunk | None = None,
    *,
    threads: int = 1,
    device: str = "cpu",
) -> Model:
    """The model that ``model_bytes`` wrote; ``origin`` is named in errors.

    ``trunk`` is needed where the trunk is neither one of placerec's own nor in ``data``.
    """
    tensors, metadata = _parse(data, origin)
    settings = parsed_settings(metadata["settings"], origin)
    digest = tensors_sha256(tensors)
    if any(name.startswith("encoder.") for name in tensors):
        trunk = _carried_vgg16(tensors, origin, threads, device)
    if trunk is None:
        if metadata["trunk"] not in TRUNKS:
            raise UsageError(
                f"{origin}: made with the trunk {metadata['trunk']}, which is not placerec's own: "
                f"name it with --model, or pass it as trunk="
            )
        trunk = open_trunk(metadata["trunk"], Runtime(threads=threads, device=device))
    if trunk.sha256 != metadata["trunk_sha256"]:
        raise UnsafeWeights(
            origin,
            f"made with trunk {metadata['trunk']} {metadata['trunk_sha256'][:12]}, this one is "
            f"{trunk.name} {trunk.sha256[:12]}",
            "use the trunk it was made with, or fit it again",
        )
    fitted = _fitted(tensors, settings, trunk.channels, origin)
    if metadata.get("sha256", digest) != digest:
        raise UnsafeWeights(origin, "its tensors are not those of its sha256", "make it again")
    return Model(
        metadata["name"], trunk, fitted, settings, metadata["training_data"],
        metadata.get("provenance", ""), metadata.get("licence", ""),
    )  # fmt: skip


def _carried_vgg16(tensors: dict[str, Array], origin: Path, threads: int, device: str) -> VGG16:
    """The VGG16 whose tensors are in ``tensors``; they are taken out of it."""
    state = {}
    for name, shape in state_shapes().items():
        if name not in tensors:
            raise UnsafeWeights(origin, f"tensor {name} is missing", "make it again")
        state[name] = tensors.pop(name)
        if state[name].shape != shape:
            raise UnsafeWeights(origin, f"tensor {name} is not {shape}", "make it again")
    return VGG16(state, state_sha256(state), Runtime(threads=threads, device=device))


def tensors_sha256(tensors: Mapping[str, Array]) -> str:
    """sha256 (hex) of tensors with their names and shapes, whatever their order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}{tensor.shape}".encode())
        digest.update(np.ascontiguousarray(tensor).data)
    return digest.hexdigest()


def _parse(data: bytes, origin: Path) -> tuple[dict[str, Array], dict[str, str]]:
    from safetensors.numpy import load

    try:
        tensors = load(data)
    except Exception as error:  # safetensors' own exception is not public
        raise _no_safetensors(data, origin, error) from error
    metadata = _metadata(data, origin)
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise UnsafeWeights(origin, f"tensor {name} is not finite", "make it again")
    return tensors, metadata


def _metadata(data: bytes, origin: Path) -> dict[str, str]:
    """What the header at the begin of ``data`` says besides the tensors."""
    try:
        length = int.from_bytes(data[:8], "little")
        metadata = dict(json.loads(data[8 : 8 + length]).get("__metadata__", {}))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise _no_safetensors(data, origin, error) from error
    missing = [key for key in REQUIRED if not isinstance(metadata.get(key), str)]
    if missing or metadata["format"] != FORMAT:
        raise UnsafeWeights(
            origin, f"no {FORMAT} file, missing: {', '.join(missing) or 'format'}",
            "make one: placerec fit PHOTOS --out MODEL.safetensors",
        )  # fmt: skip
    return metadata


def _of_wrong_type(settings: Settings) -> str:
    """What ``Settings`` does not ask of its values, because Python's types do; else nothing."""
    for one in fields(Settings):
        value = getattr(settings, one.name)
        if type(one.default) in (int, bool, str) and type(value) is not type(one.default):
            return f"{one.name} is {value!r:.40}, not of type {one.type}"
    sizes = (settings.image_size, *settings.patch_sizes)
    if not all(len(size) == 2 and all(type(side) is int for side in size) for size in sizes):
        return "image_size and patch_sizes are two whole numbers each"
    return ""


def _refuse_missing(path: Path) -> None:
    if not path.is_file():
        raise NotFound(
            path, "no such model file",
            "make one: placerec fit PHOTOS --out FILE, or placerec weights import CHECKPOINT FILE",
        )  # fmt: skip


def _no_safetensors(data: bytes, origin: Path, error: Exception) -> UnsafeWeights:
    if data.startswith(CHECKPOINT_STARTS):
        remedy = f"import it first: placerec weights import {origin} MODEL.safetensors"
        return UnsafeWeights(origin, "a PyTorch checkpoint, no model file", remedy)
    return UnsafeWeights(origin, f"no safetensors file: {error!s:.200}", "make it again")


def _fitted(tensors: dict[str, Array], settings: Settings, channels: int, origin: Path) -> Fitted:
    remaining = dict(tensors)

    def take(name: str, shape: tuple[int | None, ...], *, required: bool = True) -> Array | None:
        tensor = remaining.pop(name, None)
        if tensor is None and not required:
            return None
        if tensor is None:
            raise UnsafeWeights(origin, f"tensor {name} is missing", "make it again")
        fits = len(tensor.shape) == len(shape) and all(
            want in (None, have) for want, have in zip(shape, tensor.shape, strict=True)
        )
        if not fits:
            raise UnsafeWeights(origin, f"tensor {name} has shape {tensor.shape}", "make it again")
        return np.asarray(tensor, np.float32)

    def vocabulary(prefix: str, clusters: int, depth: int) -> Vocabulary:
        centres, weights = (
            take(f"{prefix}vocabulary.{part}", (clusters, depth)) for part in ("centres", "weights")
        )
        bias = take(prefix + "vocabulary.bias", (clusters,), required=False)
        return Vocabulary(np.asarray(centres), np.asarray(weights), bias)

    def projection(prefix: str, width: int) -> Projection | None:
        weight = take(prefix + "pca.weight", (None, width), required=False)
        if weight is None:
            return None
        return Projection(weight, np.asarray(take(prefix + "pca.bias", (len(weight),))))

    local = projection("local_", channels)
    depth = local.dimensions if local else channels
    main = vocabulary("", settings.clusters, depth)
    whole = projection("", settings.bands * settings.clusters * depth)
    patch_vocabulary, patch_projection = None, None
    if "patch_vocabulary.centres" in remaining:
        patch_vocabulary = vocabulary("patch_", settings.k_patch, channels)
        patch_projection = projection("patch_", settings.k_patch * channels)
    if settings.shared_pca:
        patch_vocabulary, patch_projection = main, whole
    if remaining:
        raise UnsafeWeights(origin, f"unknown tensor {min(remaining)}", "make it again")
    return Fitted(local, main, whole, patch_vocabulary, patch_projection)
