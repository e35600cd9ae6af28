"""The trained part as a torch module (conv5 of VGG16 and the NetVLAD layer), and its loss.

Sources: NetVLAD, CVPR 2016, equations 1-4 (the layer) and 7 (the loss); Patch-NetVLAD, section 4:
conv5_1 to conv5_3 and the NetVLAD layer are trained, all earlier layers are frozen. The layer
computes the numbers of ``method.vlad`` (a test compares them). The parameters have the published
names: ``encoder.24.weight``, ..., ``pool.centroids``, ``pool.conv.weight``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from placerec.method.vlad import NORM_FLOOR, Vocabulary
from placerec.records import Array
from placerec.trunks.vgg16 import state_shapes, vgg16_module

FIRST_TRAINED = 24  # conv5_1, the layer after the last max-pooling


def conv5(state: Mapping[str, Array]) -> nn.Sequential:
    """Return the trained layers of a VGG16 state, named by their numbers in the layer list."""
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
        """Return sums of a_k(x) (x - c_k) over the cells, normalised per cluster, then together."""
        x = functional.normalize(features, dim=1, eps=NORM_FLOOR).flatten(2)  # (n, D, cells)
        logits = self.conv.weight.flatten(1) @ x
        if self.conv.bias is not None:
            logits = logits + self.conv.bias[:, None]
        a = torch.softmax(logits, dim=1)  # (n, K, cells)
        sums = a @ x.transpose(1, 2) - a.sum(dim=2, keepdim=True) * self.centroids
        sums = functional.normalize(sums, dim=2, eps=NORM_FLOOR)
        return functional.normalize(sums.flatten(1), dim=1, eps=NORM_FLOOR)

    def vocabulary(self) -> Vocabulary:
        """Return the learned clusters in the form of ``method.vlad``."""
        bias = self.conv.bias
        return Vocabulary(
            _array(self.centroids), _array(self.conv.weight[:, :, 0, 0]),
            None if bias is None else _array(bias),
        )  # fmt: skip


class Network(nn.Module):
    """Frozen features (n, 512, h, w) to global descriptors (n, K * 512), float32, unit length.

    ``encoder`` is ``conv5`` of a VGG16 state. ``precision`` applies to the convolutions. The
    NetVLAD layer is always float32, because its sums and norms need the digits.
    """

    def __init__(
        self, encoder: nn.Sequential, vocabulary: Vocabulary, precision: str = "float32"
    ) -> None:
        super().__init__()
        # The frozen features have this memory layout.
        self.encoder = encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.pool = NetVLAD(vocabulary)
        self._precision = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)

    def forward(self, frozen: torch.Tensor) -> torch.Tensor:
        """Return the descriptors of the output of the frozen layers."""
        with torch.autocast(
            frozen.device.type, self._precision, enabled=self._precision is not None
        ):
            features = self.encoder(frozen)
        with torch.autocast(frozen.device.type, enabled=False):
            descriptors: torch.Tensor = self.pool(features.float())
        return descriptors


def triplet_loss(descriptors: torch.Tensor, groups: int, margin: float) -> torch.Tensor:
    """Return the sum of max(0, |q - p| - |q - n| + margin) over all triplets of ``groups`` queries.

    ``descriptors`` (groups * (2 + negatives), D): the rows of a group are its query, its positive
    and its negatives. As in the published program, distances are Euclidean, not squared. The caller
    divides by the number of negatives in the whole batch.
    """
    grouped = descriptors.reshape(groups, -1, descriptors.shape[1])
    query, positive, negatives = grouped[:, :1], grouped[:, 1:2], grouped[:, 2:]
    return functional.triplet_margin_loss(
        query.expand_as(negatives), positive.expand_as(negatives), negatives,
        margin=margin, reduction="sum",
    )  # fmt: skip


def trained_state(frozen: Mapping[str, Array], network: Network) -> dict[str, Array]:
    """Return a complete VGG16 state: the frozen layers of ``frozen``, the others of ``network``."""
    trained = {name: _array(tensor) for name, tensor in network.state_dict().items()}
    return {name: trained.get(name, frozen[name]) for name in state_shapes()}


def _tensor(array: Array) -> torch.Tensor:
    return torch.from_numpy(np.array(array, np.float32))


def _array(tensor: torch.Tensor) -> Array:
    array: Array = tensor.detach().cpu().numpy().copy()
    return array
