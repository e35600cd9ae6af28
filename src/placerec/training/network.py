"""The network as two parts: the frozen layers of VGG16, and conv5 and NetVLAD, which are trained.

Sources: NetVLAD, CVPR 2016, equations 1-4 (the layer) and 7 (the loss); Patch-NetVLAD, section 4:
conv5_1 to conv5_3 and the NetVLAD layer are trained, all earlier layers are frozen.

The frozen layers are nine tenths of the multiplications, and their output never changes, so it is
cached on disk (``trunks.map_cache``). On a CPU each photo runs alone through ONNX Runtime, so its
features have the same bits for any batch and any number of threads. On a GPU several photos run
together through PyTorch, and the features that fit into a quarter of its memory stay there.

The layer computes the numbers of ``method.vlad`` (a test compares them). The parameters have the
published names: ``encoder.24.weight``, ..., ``pool.centroids``, ``pool.conv.weight``.
"""

from __future__ import annotations

import shutil
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from placerec.device import open_device, resident_bytes
from placerec.errors import UsageError
from placerec.files import file_sha256
from placerec.method.vlad import NORM_FLOOR, Vocabulary
from placerec.photos.decode import decode
from placerec.photos.prepare import prepare
from placerec.records import Array
from placerec.runtime import DEFAULT_RUNTIME, Runtime
from placerec.trunks import channels_last
from placerec.trunks.external import NetworkTrunk, OnnxTrunk, TorchTrunk
from placerec.trunks.map_cache import map_folder, read_map, write_map
from placerec.trunks.vgg16 import VGG16, state_shapes, vgg16_module, vgg16_onnx
from placerec.workers import map_all, map_in_order

FIRST_TRAINED = 24  # conv5_1, the layer after the max-pooling after conv4_3
CELL = 16  # pixels per feature cell
FROZEN = "vgg16 to conv4"


class FrozenFeatures:
    """The frozen layers of ``trunk`` at one image size, with or without a cache on disk."""

    def __init__(
        self,
        trunk: VGG16,
        size: tuple[int, int],
        *,
        cached: bool = True,
        runtime: Runtime = DEFAULT_RUNTIME,
    ) -> None:
        self._size, self._threads = size, runtime.cores
        self.shape = (size[0] // CELL, size[1] // CELL, trunk.channels)
        self.folder = map_folder(trunk.sha256, size, "-frozen") if cached else None
        self._sha256 = cache(file_sha256)
        self._device = open_device(runtime.device)
        self._there: dict[Path, torch.Tensor] = {}
        self._room = resident_bytes(self._device) if runtime.on_gpu else 0
        self._layers: NetworkTrunk
        if runtime.on_gpu:
            module = vgg16_module(trunk.state)[:FIRST_TRAINED]
            self._layers = TorchTrunk(module, name=FROZEN, runtime=runtime)
        else:
            data = vgg16_onnx(trunk.state, FIRST_TRAINED)
            self._layers = OnnxTrunk(data, name=FROZEN, runtime=Runtime(threads=1))

    def there(self, paths: Sequence[Path]) -> torch.Tensor:
        """Return features (n, 512, h, w) float32 on the device, in the order of ``paths``."""
        missing = [path for path in dict.fromkeys(paths) if path not in self._there]
        features = self._there
        if missing:
            read = torch.from_numpy(self.batch(missing)).to(self._device)
            features = features | dict(zip(missing, read, strict=True))
            if self._room >= read.nbytes:
                self._there, self._room = features, self._room - read.nbytes
        return torch.stack([features[path] for path in paths]).permute(0, 3, 1, 2)

    def batch(self, paths: Sequence[Path]) -> Array:
        """Return features (n, h, w, 512) float32, in the order of ``paths``."""
        if self.folder is None:
            return np.stack(list(self._computed(paths)))
        digests = map_in_order(self._sha256, paths, self._threads)
        files = [self.folder / f"{digest}.npy" for digest in digests]
        maps: dict[Path, Array] = {}
        missing: dict[Path, Path] = {}
        read = map_in_order(read_map, files, self._threads)
        for file, path, stored in zip(files, paths, read, strict=True):
            if stored is None:
                missing[file] = path
            else:
                maps[file] = stored
        for file, features in zip(missing, self._computed([*missing.values()]), strict=True):
            write_map(file, features)
            maps[file] = features
        return np.stack([maps[file] for file in files])

    def check_space(self, photos: int) -> None:
        """Raise ``UsageError`` if the cached features of ``photos`` photos do not fit the disk."""
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        stored = sum(1 for _ in self.folder.glob("*.npy"))
        needed = max(photos - stored, 0) * int(np.prod(self.shape)) * 4
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise UsageError(
                f"{self.folder}: the frozen features of {photos} photos need "
                f"{needed / 1e9:.0f} GB more, and {free / 1e9:.0f} GB are free; turn off cached, "
                f"or set PLACEREC_CACHE to a folder on a larger disk"
            )

    def _computed(self, paths: Sequence[Path]) -> Iterator[Array]:
        """Yield the features (h, w, 512) of photos, ``at_once`` of them in one pass."""
        at_once = self._layers.at_once
        readers, passes = (self._threads, 1) if at_once > 1 else (1, self._threads)
        preprocessing = self._layers.preprocessing(self._size)

        def image(path: Path) -> Array:
            return prepare(decode(path).pixels, preprocessing)

        def one_pass(first: int) -> list[Array]:
            photos = paths[first : first + at_once]
            images = np.concatenate(map_all(image, photos, readers))
            return [channels_last(one, FROZEN) for one in self._layers.maps(images)]

        for features in map_in_order(one_pass, range(0, len(paths), at_once), passes):
            yield from features


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
