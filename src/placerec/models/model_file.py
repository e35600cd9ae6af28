"""Model files: fitted tensors as float32 safetensors, with a header that says where they come from.

The same bytes are a file (``placerec fit``) and the model inside an index. The header states the
format, the trunk by name and sha256, the settings, the training data, provenance and licence, and
the sha256 of the tensors. The tensors of an imported or trained VGG16 (``encoder.*``) are in the
file. Loading runs no code. A missing, unknown, misshapen or non-finite tensor is refused by name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from placerec.errors import (
    Damaged,
    ModelMismatch,
    NotFound,
    TrunkNeeded,
    UnsafeWeights,
    UsageError,
    import_package,
)
from placerec.files import atomic_write, is_file, path_of
from placerec.models.model import Fitted, Model, fitted_tensors
from placerec.models.published import model_path
from placerec.models.tensors import Tensors
from placerec.records import Array
from placerec.runtime import DEFAULT_RUNTIME, Runtime, require_runtime
from placerec.settings import AnySettings, settings_from_json
from placerec.trunks import TRUNKS, Trunk, open_trunk
from placerec.trunks.efficientnet_lite import NAME as SHIPPED
from placerec.trunks.vgg16 import VGG16, state_sha256, state_shapes

FORMAT = "placerec-model-1"
LONGEST_HEADER = 1 << 20  # bytes
LARGEST_FILE = 1 << 30  # bytes; a larger model does not fit in an index
REQUIRED = ("format", "name", "trunk", "trunk_sha256", "settings", "training_data")
CHECKPOINT_ENDINGS = (".pth", ".pt", ".tar", ".ckpt")  # of what ``weights import`` reads
CHECKPOINT_STARTS = (b"PK", b"\x80")  # a zip archive, a pickle
REMEDY = "make the file again"
FIT_AGAIN = "fit it again: placerec fit PHOTOS"
VOCABULARY_NAMES = ("vocabulary.centres", "vocabulary.weights", "vocabulary.bias")
PROJECTION_NAMES = ("pca.weight", "pca.bias")
MALFORMED = (ValueError, TypeError, LookupError, AttributeError, RecursionError)  # JSON content


def save_model(model: Model, path: str | Path) -> None:
    """Write ``model`` to ``path`` atomically."""
    data = model_bytes(model)
    with atomic_write(path_of(path)) as partial:
        partial.write_bytes(data)


def load_model(path: str | Path, runtime: Runtime = DEFAULT_RUNTIME) -> Model:
    """Return the model in the file ``path``; its trunk is opened by name.

    ``path`` may be the name of a published model that is on this machine (``mapillary-512``).
    """
    require_runtime(runtime)
    path = _existing(path)
    read_header(path)  # refuses a file that is something else before it is read as a whole
    try:
        return model_from_bytes(path.read_bytes(), path, runtime=runtime)
    except TrunkNeeded as error:  # nobody can give the trunk of a model file
        raise UsageError(
            f"{path}: fitted with the trunk {error.trunk}, a file outside placerec; give that file "
            f"as model: it is fitted on your photos again"
        ) from error


def read_header(path: str | Path) -> dict[str, str]:
    """Return the header of the model file ``path`` without reading its tensors."""
    path = _existing(path)
    with path.open("rb") as file:
        start = file.read(8)
        header = file.read(min(int.from_bytes(start, "little"), LONGEST_HEADER))
    return parse_header(start + header, path)


def read_settings(path: str | Path) -> AnySettings:
    """Return the settings of the model file ``path`` without reading its tensors."""
    return parse_settings(read_header(path)["settings"], Path(path))


def parse_header(data: bytes, origin: Path) -> dict[str, str]:
    """Return the header texts of a model file that begins with ``data``."""
    try:
        length = int.from_bytes(data[:8], "little")
        if length > LONGEST_HEADER:
            raise ValueError(f"a header of {length} bytes, more than {LONGEST_HEADER}")
        header = dict(json.loads(data[8 : 8 + length]).get("__metadata__", {}))
    except MALFORMED as error:
        raise _not_safetensors(data, origin, error) from error
    missing = [key for key in REQUIRED if not isinstance(header.get(key), str)]
    if missing or header["format"] != FORMAT:
        why = f"not a {FORMAT} file, missing: {', '.join(missing) or 'format'}"
        raise UnsafeWeights(origin, why, "make a model file: placerec fit PHOTOS")
    return header


def parse_settings(text: str, origin: Path) -> AnySettings:
    """Return the settings in JSON ``text``; invalid ones are ``UnsafeWeights`` of ``origin``."""
    try:
        settings = settings_from_json(text)
    except (UsageError, *MALFORMED) as error:
        why = f"its settings cannot be read: {str(error) or type(error).__name__:.200}"
        raise UnsafeWeights(origin, why, "make it again with this version") from error
    return settings


def model_bytes(model: Model) -> bytes:
    """Return ``model`` as safetensors, without its trunk unless that is an own VGG16."""
    if not isinstance(model, Model):
        raise UsageError(f"{model!r:.100}: not a Model; give what fit_on_folder or load_model made")
    save = import_package("safetensors.numpy").save
    trunk = model.trunk.state if isinstance(model.trunk, VGG16) and model.trunk.own else {}
    tensors = {
        name: np.ascontiguousarray(tensor, np.float32)
        for name, tensor in {**trunk, **fitted_tensors(model.fitted)}.items()
    }
    header = {
        "format": FORMAT, "name": model.name, "trunk": model.trunk.name,
        "trunk_sha256": model.trunk.sha256, "settings": model.settings.to_json(),
        "training_data": model.training_data, "provenance": model.provenance,
        "licence": model.licence, "sha256": tensors_sha256(tensors),
    }  # fmt: skip
    return _in_fixed_order(save(tensors, header))


def _in_fixed_order(data: bytes) -> bytes:
    """Return a safetensors file with a sorted header: the library writes it in a random order."""
    length = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + length]), sort_keys=True).encode()
    header += b" " * (-len(header) % 8)  # the tensors begin at a multiple of 8
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def model_from_bytes(
    data: bytes, origin: Path, trunk: Trunk | None = None, runtime: Runtime = DEFAULT_RUNTIME,
    again: str = FIT_AGAIN,
) -> Model:  # fmt: skip
    """Return the model that ``model_bytes`` wrote; errors name ``origin``.

    ``trunk`` is required if the model's trunk is neither in ``data`` nor one of ``TRUNKS``: else
    this raises ``TrunkNeeded``. If another version of placerec made the model with another trunk,
    this raises ``ModelMismatch``; ``again`` says how a person makes ``origin`` again.
    """
    tensors, header = _parse(data, origin)
    settings = parse_settings(header["settings"], origin)
    digest = tensors_sha256(tensors)
    file = Tensors(origin, tensors, VOCABULARY_NAMES, PROJECTION_NAMES)
    if any(name.startswith("encoder.") for name in tensors):
        state = {name: file.take(name, shape) for name, shape in state_shapes().items()}
        trunk = VGG16(state, state_sha256(state), runtime)
    if trunk is None:
        if header["trunk"] not in TRUNKS:
            raise TrunkNeeded(origin, header["trunk"])
        trunk = open_trunk(header["trunk"], runtime)
    if trunk.sha256 != header["trunk_sha256"]:
        raise _made_with_another(header, trunk, origin, again)
    fitted = _fitted(file, settings, trunk.channels)
    if header.get("sha256", digest) != digest:
        raise UnsafeWeights(origin, "its tensors do not have the sha256 that it states", REMEDY)
    return Model(
        header["name"], trunk, fitted, settings, header["training_data"],
        header.get("provenance", ""), header.get("licence", ""),
    )  # fmt: skip


def _made_with_another(header: dict[str, str], trunk: Trunk, origin: Path, again: str) -> Damaged:
    """Return the error for a model of another trunk than the one that was opened or given."""
    made_with = f"{header['trunk']} {header['trunk_sha256'][:12]}"
    this = f"{trunk.name} {trunk.sha256[:12]}"
    if header["trunk"] == trunk.name == SHIPPED:
        maker = f"another version of placerec, with the trunk {made_with}"
        return ModelMismatch(origin, maker, f"{this}, the trunk of this version", again)
    why = f"made with trunk {made_with}, this trunk is {this}"
    return UnsafeWeights(origin, why, "use the trunk that it was made with, or fit it again")


def tensors_sha256(tensors: Mapping[str, Array]) -> str:
    """Return the sha256 (hex) of tensors with their names and shapes, in any order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}{tensor.shape}".encode())
        digest.update(np.ascontiguousarray(tensor).data)
    return digest.hexdigest()


def _existing(path: str | Path) -> Path:
    path = model_path(path)
    if not is_file(path):
        remedy = "make one: placerec fit PHOTOS"
        raise NotFound(path, "no such model file", remedy)
    if path.stat().st_size > LARGEST_FILE:
        raise UnsafeWeights(path, f"more than {LARGEST_FILE} bytes", REMEDY)
    return path


def _parse(data: bytes, origin: Path) -> tuple[dict[str, Array], dict[str, str]]:
    header = parse_header(data, origin)
    load = import_package("safetensors.numpy").load
    try:
        return load(data), header
    except Exception as error:  # safetensors' own exception is not public
        raise _not_safetensors(data, origin, error) from error


def _fitted(tensors: Tensors, settings: AnySettings, channels: int) -> Fitted:
    """Take everything that a fit for ``settings`` has; nothing may remain."""
    local = tensors.projection(channels, "local_")
    depth = local.dimensions if local else channels
    vocabulary = tensors.vocabulary(settings.clusters, depth)
    projection = tensors.projection(settings.bands * settings.clusters * depth)
    fitted = Fitted(local, vocabulary, projection, None, None)
    if settings.form == "published":
        fitted = Fitted.shared(vocabulary, projection)
    elif "patch_vocabulary.centres" in tensors.tensors:
        fitted = replace(
            fitted,
            patch_vocabulary=tensors.vocabulary(settings.k_patch, channels, "patch_"),
            patch_projection=tensors.projection(settings.k_patch * channels, "patch_"),
        )
    tensors.refuse_rest()
    return fitted


def _not_safetensors(data: bytes, origin: Path, error: Exception) -> UnsafeWeights:
    if data.startswith(CHECKPOINT_STARTS):
        remedy = f"import it first: placerec weights import {origin} MODEL.safetensors"
        return UnsafeWeights(origin, "a PyTorch checkpoint, not a model file", remedy)
    return UnsafeWeights(origin, f"not a safetensors file: {error!s:.200}", REMEDY)
