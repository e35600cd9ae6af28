"""What is trained, as a torch module: conv5 of VGG16 and the NetVLAD layer behind it.

Source: NetVLAD, CVPR 2016, equations 1-4; Patch-NetVLAD, section 4: conv5_1 to conv5_3 and the
NetVLAD layer are trained, everything before is frozen. The numbers are those of ``method.vlad``
(a test compares them), and the parameters have the published names: ``encoder.24.weight``, ...,
``pool.centroids``, ``pool.conv.weight``.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from placerec.method.vlad import NORM_FLOOR, Vocabulary
from placerec.trunks.vgg16 import state_shapes, vgg16_module

if TYPE_CHECKING:
    from collections.abc import Mapping

    from placerec.records import Array

FIRST_TRAINED = 24  # conv5_1, the layer behind the last max-pooling


def conv5(state: Mapping[str, Array]) -> nn.Sequential:
    """The trained layers of a VGG16 state, under their numbers in the layer list."""
    layers = vgg16_module(state)
    return nn.Sequential(
        OrderedDict((str(n), layers[n]) for n in range(FIRST_TRAINED, len(layers)))
    )


class NetVLAD(nn.Module):
    """The global descriptor as a layer: features (n, D, h, w) to (n, K * D) of unit length."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        clusters, depth = vocabulary.centres.shape
        self.centroids = nn.Parameter(_tensor(vocabulary.centres))
        self.conv = nn.Conv2d(depth, clusters, 1, bias=vocabulary.bias is not None)
        with torch.no_grad():
            self.conv.weight.copy_(_tensor(vocabulary.weights)[:, :, None, None])
            if vocabulary.bias is not None and self.conv.bias is not None:
                self.conv.bias.copy_(_tensor(vocabulary.bias))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Sum a_k(x) (x - c_k) over the cells, each cluster to unit length, then the whole."""
        x = functional.normalize(features, dim=1, eps=NORM_FLOOR).flatten(2)  # (n, D, cells)
        logits = self.conv.weight.flatten(1) @ x
        if self.conv.bias is not None:
            logits = logits + self.conv.bias[:, None]
        a = torch.softmax(logits, dim=1)  # (n, K, cells)
        sums = a @ x.transpose(1, 2) - a.sum(dim=2, keepdim=True) * self.centroids
        sums = functional.normalize(sums, dim=2, eps=NORM_FLOOR)
        return functional.normalize(sums.flatten(1), dim=1, eps=NORM_FLOOR)

    def vocabulary(self) -> Vocabulary:
        """What has been learnt, as ``method.vlad`` takes it."""
        bias = self.conv.bias
        return Vocabulary(
            _array(self.centroids), _array(self.conv.weight[:, :, 0, 0]),
            None if bias is None else _array(bias),
        )  # fmt: skip


class Network(nn.Module):
    """Frozen features (n, 512, h, w) to global descriptors (n, K * 512), float32, unit length.

    ``encoder`` is ``conv5`` of a VGG16 state.
    ``precision`` is that of the convolutions; the NetVLAD layer, whose sums and norms need the
    digits, is always float32.
    """

    def __init__(
        self, encoder: nn.Sequential, vocabulary: Vocabulary, precision: str = "float32"
    ) -> None:
        super().__init__()
        # The layout that the frozen features come in.
        self.encoder = encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.pool = NetVLAD(vocabulary)
        self._precision = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)

    def forward(self, frozen: torch.Tensor) -> torch.Tensor:
        """Descriptors of features as they leave the frozen layers."""
        with torch.autocast(
            frozen.device.type, self._precision, enabled=self._precision is not None
        ):
            features = self.encoder(frozen)
        with torch.autocast(frozen.device.type, enabled=False):
            descriptors: torch.Tensor = self.pool(features.float())
        return descriptors


def trained_state(frozen: Mapping[str, Array], network: Network) -> dict[str, Array]:
    """A whole VGG16 state: the frozen layers of ``frozen``, the others from ``network``."""
    learnt = {name: _array(tensor) for name, tensor in network.state_dict().items()}
    return {name: learnt.get(name, frozen[name]) for name in state_shapes()}


def _tensor(array: Array) -> torch.Tensor:
    return torch.from_numpy(np.array(array, np.float32))


def _array(tensor: torch.Tensor) -> Array:
    array: Array = tensor.detach().cpu().numpy().copy()
    return array
