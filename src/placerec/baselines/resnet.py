"""ResNet with bottleneck blocks, up to its last feature map, from a dictionary of tensors.

Source: He, Zhang, Ren and Sun, "Deep residual learning for image recognition", CVPR 2016, table 1.
The stride is in the 3 x 3 convolution of a block, as in the common weight files. The tensors have
the names of these files (``layer3.22.bn2.running_var``), which define the depth: the four stages
have 3, 4, 23 and 3 blocks in ResNet-101, and 3, 4, 6 and 3 in ResNet-50.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

RESNET101 = (3, 4, 23, 3)
STEM = 64
WIDTHS = (64, 128, 256, 512)  # of the 3 x 3 convolutions, by stage
EXPANSION = 4
CHANNELS = WIDTHS[-1] * EXPANSION
STRIDE = 32  # pixels per cell of the feature map
BATCH_NORM = ("weight", "bias", "running_mean", "running_var")


def blocks_of(names: Iterable[str]) -> tuple[int, ...]:
    """Return the number of blocks of each of the four stages, from the names of the tensors."""
    blocks = {tuple(name.split(".")[:2]) for name in names}
    stages = [stage for stage, *_ in blocks]
    return tuple(stages.count(f"layer{number}") for number in range(1, len(WIDTHS) + 1))


def state_shapes(blocks: tuple[int, ...] = RESNET101) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of a network, by name."""
    shapes: dict[str, tuple[int, ...]] = {}

    def convolution(name: str, norm: str, shape: tuple[int, ...]) -> None:
        shapes[f"{name}.weight"] = shape
        shapes.update({f"{norm}.{part}": shape[:1] for part in BATCH_NORM})

    convolution("conv1", "bn1", (STEM, 3, 7, 7))
    channels = STEM
    for stage, (count, width) in enumerate(zip(blocks, WIDTHS, strict=True), start=1):
        for number in range(count):
            block, out = f"layer{stage}.{number}", width * EXPANSION
            convolution(f"{block}.conv1", f"{block}.bn1", (width, channels, 1, 1))
            convolution(f"{block}.conv2", f"{block}.bn2", (width, width, 3, 3))
            convolution(f"{block}.conv3", f"{block}.bn3", (out, width, 1, 1))
            if number == 0:
                convolution(f"{block}.downsample.0", f"{block}.downsample.1", (out, channels, 1, 1))
            channels = out
    return shapes


def feature_map(state: Mapping[str, torch.Tensor], image: torch.Tensor) -> torch.Tensor:
    """Return (1, 2048, H/32, W/32), at least 0, of a normalised RGB image (1, 3, H, W)."""
    from torch.nn import functional

    def layer(x: torch.Tensor, name: str, norm: str, stride: int = 1) -> torch.Tensor:
        weight = state[f"{name}.weight"]
        x = functional.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        scale, bias, mean, variance = (state[f"{norm}.{part}"] for part in BATCH_NORM)
        return functional.batch_norm(x, mean, variance, scale, bias)

    x = functional.max_pool2d(layer(image, "conv1", "bn1", 2).relu(), 3, stride=2, padding=1)
    for stage, count in enumerate(blocks_of(state), start=1):
        for number in range(count):
            block = f"layer{stage}.{number}"
            stride = 2 if number == 0 and stage > 1 else 1
            y = layer(x, f"{block}.conv1", f"{block}.bn1").relu()
            y = layer(y, f"{block}.conv2", f"{block}.bn2", stride).relu()
            y = layer(y, f"{block}.conv3", f"{block}.bn3")
            if number == 0:
                x = layer(x, f"{block}.downsample.0", f"{block}.downsample.1", stride)
            x = (x + y).relu()
    return x
