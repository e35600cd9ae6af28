"""Matching and scoring of a shortlist on one device, by PyTorch.

``method`` has the same in NumPy: a CPU runs that, and the tests compare this room with it.
``shortlist`` is the way through the room, ``matching`` the mutual neighbours, ``fused`` its kernel
for an NVIDIA GPU, ``scorers`` the spatial score and the votes, ``homography`` RANSAC, ``resident``
the patches that stay on the device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from placerec.errors import import_extra
from placerec.runtime import Runtime

if TYPE_CHECKING:
    from placerec.engine.shortlist import Engine


def engine_for(runtime: Runtime) -> Engine | None:
    """Return the engine of a GPU; ``None`` on a CPU, where ``method.scores`` is used.

    Raises ``UsageError`` if there is no such GPU, or no PyTorch.
    """
    if not runtime.on_gpu:
        return None
    import_extra("torch", f"device {runtime.device}", "torch")
    from placerec.engine.shortlist import Engine

    return Engine(runtime.device, runtime.precision)
