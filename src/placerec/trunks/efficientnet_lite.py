"""EfficientNet-Lite0 up to its stride-16 stage: the trunk that ships in the package.

112 channels after block 10, without an activation. Weights: ImageNet's, further trained on street
photos to see the same by day and by night (``training/invariance.py``). The file states its input,
its training data and its licence; ``weights/README.md`` has the whole provenance.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files

from placerec.errors import UnsafeWeights
from placerec.runtime import DEFAULT_RUNTIME, Runtime
from placerec.trunks.external import OnnxTrunk

NAME = "efficientnet-lite0"
WEIGHTS = f"{NAME}.onnx"
SHA256 = "cae21444c1e9870d4036b588fda2c630ddd81b9acd2bceba6531a341e317d5d7"


class EfficientNetLite0(OnnxTrunk):
    """EfficientNet-Lite0, blocks 0-10. The input is (x - 127) / 128 with x in 0..255 RGB."""

    def __init__(self, runtime: Runtime = DEFAULT_RUNTIME) -> None:
        super().__init__(shipped_onnx(), name=NAME, runtime=runtime)


def shipped_onnx() -> bytes:
    """Return the ONNX file that ships; raise ``UnsafeWeights`` if its bytes have changed."""
    data = (files("placerec.trunks") / "weights" / WEIGHTS).read_bytes()
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise UnsafeWeights(WEIGHTS, "its sha256 has changed", "install placerec again")
    return data
