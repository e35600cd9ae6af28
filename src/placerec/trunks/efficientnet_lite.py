"""EfficientNet-Lite0 to its stride-16 stage: the trunk that ships in the package.

112 channels after block 10, linear. Weights: ImageNet, Apache-2.0; provenance and licence text
stand beside the file in ``weights/``. Made again by ``placerec weights convert``.
"""

from __future__ import annotations

from importlib.resources import files

from placerec.trunks.external import OnnxTrunk

WEIGHTS = "efficientnet-lite0.onnx"
SHA256 = "3efef6e9afa4229b124068a3d23d2c1d1f4161ee8ba7f726f6693f0d96ac3bce"
MEAN = (127.0, 127.0, 127.0)
STD = (128.0, 128.0, 128.0)


class EfficientNetLite0(OnnxTrunk):
    """EfficientNet-Lite0, blocks 0-10, at (x - 127) / 128 with x in 0..255 RGB."""

    def __init__(self, threads: int = 1, device: str = "cpu") -> None:
        source = files("placerec.trunks") / "weights" / WEIGHTS
        super().__init__(
            source.read_bytes(), name="efficientnet-lite0", mean=MEAN, std=STD,
            threads=threads, device=device, expected_sha256=SHA256,
        )  # fmt: skip
