"""PyTorch on a GPU: which device, in which precision, and one thread at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from placerec.errors import UsageError, import_extra

if TYPE_CHECKING:
    import torch

RESIDENT_SHARE = 4  # a quarter of a GPU's memory holds what was read before
RESIDENT_BYTES = 1 << 30  # on a device that does not say how much memory it has
GPU = threading.Lock()  # the precision belongs to the process, not to a thread


def open_device(name: str) -> torch.device:
    """Return the device ``cpu``, ``cuda``, ``cuda:1`` or ``mps`` of PyTorch.

    Raises ``MissingExtra`` without PyTorch, and ``UsageError`` if PyTorch finds no such device.
    """
    import_extra("torch", f"device {name}", "torch")
    import torch

    device = torch.device(name)
    is_there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not is_there[device.type] or (device.index or 0) >= max(1, torch.cuda.device_count()):
        raise UsageError(f"device {name}: PyTorch finds no such device; use cpu")
    return device


def resident_bytes(device: torch.device) -> int:
    """Return how many bytes on a device may hold what was read before."""
    import torch

    if device.type != "cuda":
        return RESIDENT_BYTES
    return torch.cuda.get_device_properties(device).total_memory // RESIDENT_SHARE


@contextmanager
def alone(device: torch.device, precision: str) -> Iterator[None]:
    """On a GPU, one thread at a time, in this precision. On a CPU this changes nothing."""
    if device.type == "cpu":
        yield
        return
    with GPU, convolutions_in(precision):
        yield


@contextmanager
def convolutions_in(precision: str) -> Iterator[None]:
    """Set the precision of PyTorch's convolutions on a GPU, and restore it after the block.

    They are float32, or tf32 for the precisions tf32 and float16. Matrix products of float32 are
    float32. On a CPU this changes nothing. PyTorch alone uses tf32, which has 10 bits of mantissa
    in place of 23.
    """
    import torch

    cudnn: Any = torch.backends.cudnn
    backends = cudnn.conv, torch.backends.cuda.matmul
    before = [backend.fp32_precision for backend in backends]
    wanted = "tf32" if precision in ("tf32", "float16") else "ieee", "ieee"
    try:
        for backend, value in zip(backends, wanted, strict=True):
            backend.fp32_precision = value
        yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.fp32_precision = value
