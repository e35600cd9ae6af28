"""VGG16 to conv5_3 without its last ReLU: the trunk of the paper.

Source: Patch-NetVLAD, section 4 (VGG16, conv5_3); Simonyan and Zisserman, ICLR 2015. Layer numbers
are those of the usual layer list, so published state dictionaries fit.

The weights (29 MB) do not ship. ``placerec weights convert vgg16`` writes them into the cache
folder, and a model that ``placerec weights import`` writes contains its own. On a CPU the trunk
runs on ONNX Runtime, which is faster than PyTorch (docs/REPRODUCE.md) and gives the same numbers
except for rounding. On a GPU it runs on PyTorch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from placerec.errors import UnsafeWeights, import_extra
from placerec.files import cache_folder
from placerec.photos.prepare import Preprocessing
from placerec.records import Array
from placerec.runtime import DEFAULT_RUNTIME, Runtime
from placerec.trunks.convert import SOURCES, read_safetensors
from placerec.trunks.external import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Network,
    OnnxNetwork,
    TorchNetwork,
    maps_of,
    maps_there,
)

if TYPE_CHECKING:
    import torch

LAYOUT = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512)


def layer_list() -> list[tuple[str, int, int]]:
    """Return the layers in order as (kind, input channels, output channels).

    The kind is conv, relu or pool.
    """
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
    """VGG16 up to conv5_3: 512 channels, stride 16, both signs (no last ReLU).

    ``state`` holds float arrays ``encoder.N.weight`` (Cout, Cin, 3, 3) and ``encoder.N.bias``
    (Cout,) for the 13 layer numbers. ``sha256`` identifies them. A model file contains the weights
    if they are its ``own``; it does not contain those of the cache folder.
    """

    name = "vgg16"
    channels, stride = 512, 16

    def __init__(
        self,
        state: Mapping[str, Array],
        sha256: str,
        runtime: Runtime = DEFAULT_RUNTIME,
        *,
        own: bool = True,
    ) -> None:
        self.state = {key: np.asarray(state[key], np.float32) for key in state_shapes()}
        self.sha256, self.own = sha256, own
        self._network: Network
        if runtime.on_gpu:
            module = vgg16_module(self.state)
            self._network = TorchNetwork(module, self.name, runtime, channels_last=True)
        else:
            self._network = OnnxNetwork(vgg16_onnx(self.state), self.name, runtime)

    @classmethod
    def from_cache(cls, runtime: Runtime = DEFAULT_RUNTIME) -> VGG16:
        """Return the trunk with the converted weights of the cache folder.

        Raises ``NotFound`` if they are not there and ``UnsafeWeights`` if the file is invalid.
        """
        path, remedy = cache_folder() / "vgg16.safetensors", SOURCES["vgg16"].convert("vgg16")
        state, _ = read_safetensors(path, "vgg16", remedy)
        for key, shape in state_shapes().items():
            if key not in state or state[key].shape != shape:
                why = f"tensor {key} is missing or does not fit"
                raise UnsafeWeights(path, why, f"make them again: {remedy}")
        # Not the sha256 of the file: its header may list the tensors in another order each time.
        return cls(state, state_sha256(state), runtime, own=False)

    def preprocessing(self, size: tuple[int, int]) -> Preprocessing:
        """Return the input at ``size``; JPEGs are decoded at full size, as published."""
        return Preprocessing(size, IMAGENET_MEAN, IMAGENET_STD, shrink=False)

    def __call__(self, image: Array) -> Array:
        """Return the feature map (512, H/16, W/16) float32 of (1, 3, H, W) float32."""
        return self.maps(image)[0]

    @property
    def at_once(self) -> int:
        """The number of images that one call of ``maps`` should take: 1 on a CPU."""
        return self._network.at_once

    def maps(self, images: Array) -> list[Array]:
        """Return the feature maps (512, H/16, W/16) float32 of images (n, 3, H, W) float32."""
        return maps_of(self._network, images)

    def maps_there(self, images: Sequence[Array]) -> torch.Tensor | None:
        """Return the feature maps of images on a GPU; see ``external.maps_there``."""
        return maps_there(self._network, images)


def state_shapes() -> dict[str, tuple[int, ...]]:
    """Return the keys of a VGG16 state and the shape of each."""
    shapes: dict[str, tuple[int, ...]] = {}
    for number, (kind, inputs, outputs) in enumerate(layer_list()):
        if kind == "conv":
            shapes[f"encoder.{number}.weight"] = (outputs, inputs, 3, 3)
            shapes[f"encoder.{number}.bias"] = (outputs,)
    return shapes


def state_sha256(state: Mapping[str, Array]) -> str:
    """Return the sha256 (hex) of a VGG16 state as float32, in the order of ``state_shapes``."""
    digest = hashlib.sha256()
    for key in state_shapes():
        digest.update(key.encode())
        digest.update(np.ascontiguousarray(state[key], np.float32).tobytes())
    return digest.hexdigest()


def vgg16_onnx(state: Mapping[str, Array], layers: int | None = None) -> bytes:
    """Return an ONNX model of the first ``layers`` layers (``None``: all) of a state.

    It maps an image (1, 3, H, W) to the features of its last layer.
    """
    onnx = import_extra("onnx", "trunk vgg16", "paper")
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    nodes, tensors, x = [], [], "image"
    for number, (kind, _, _) in enumerate(layer_list()[:layers]):
        out = f"layer{number}"
        if kind == "conv":
            names = [f"encoder.{number}.{part}" for part in ("weight", "bias")]
            tensors += [
                onnx.numpy_helper.from_array(np.asarray(state[name], np.float32), name)
                for name in names
            ]
            node = helper.make_node("Conv", [x, *names], [out], pads=[1, 1, 1, 1])
        elif kind == "relu":
            node = helper.make_node("Relu", [x], [out])
        else:
            node = helper.make_node("MaxPool", [x], [out], kernel_shape=[2, 2], strides=[2, 2])
        nodes.append(node)
        x = out
    image = helper.make_tensor_value_info("image", float32, [1, 3, "H", "W"])
    features = helper.make_tensor_value_info(x, float32, None)
    graph = helper.make_graph(nodes, "vgg16", [image], [features], tensors)
    model = helper.make_model(
        graph, producer_name="placerec", ir_version=8, opset_imports=[helper.make_opsetid("", 17)]
    )
    encoded: bytes = model.SerializeToString()
    return encoded


def vgg16_module(state: Mapping[str, Array]) -> torch.nn.Sequential:
    """Return the torch module of a state; its layer N is layer N of ``layer_list``."""
    import_extra("torch", "trunk vgg16 on PyTorch", "torch")
    import torch
    from torch import nn

    layers: list[nn.Module] = []
    for kind, inputs, outputs in layer_list():
        if kind == "conv":
            layers.append(nn.Conv2d(inputs, outputs, 3, padding=1))
        else:
            layers.append(nn.ReLU() if kind == "relu" else nn.MaxPool2d(2))
    module = nn.Sequential(*layers)
    tensors = {key: torch.from_numpy(np.array(state[key], np.float32)) for key in state_shapes()}
    module.load_state_dict({key.removeprefix("encoder."): t for key, t in tensors.items()})
    return module
