"""PyTorch on a GPU: which device, in which precision, one thread at a time, and the way there."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from placerec.errors import UsageError, import_extra
from placerec.records import Array

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


def send(arrays: Sequence[Array], device: torch.device) -> torch.Tensor:
    """Return arrays of one shape on a device, as one float32 tensor (n, ...).

    A GPU copies page-locked memory about ten times as fast as other memory, and meanwhile the
    caller goes on. So the arrays pass through such memory. Arrays of several shapes raise
    ``ValueError``.
    """
    import torch

    on_gpu = device.type == "cuda"
    # PyTorch takes no array that is read-only, as those of an exact index are.
    there = [torch.from_numpy(np.require(array, np.float32, ["C", "W"])) for array in arrays]
    if on_gpu and len(there) == 1 and there[0].is_pinned():
        return there[0][None].to(device)
    block = torch.empty((len(there), *there[0].shape), pin_memory=on_gpu)
    for row, one in zip(block, there, strict=True):
        if one.shape != row.shape:
            raise ValueError(f"arrays of shapes {tuple(row.shape)} and {tuple(one.shape)}")
        row.copy_(one)
    return block.to(device, non_blocking=on_gpu)


def send_numbers(numbers: Sequence[Sequence[int]], device: torch.device) -> torch.Tensor:
    """Return rows of whole numbers on a device, as an int64 tensor."""
    import torch

    on_gpu = device.type == "cuda"
    block = torch.tensor(numbers, dtype=torch.int64, pin_memory=on_gpu)
    return block.to(device, non_blocking=on_gpu)


def fetch(tensors: Sequence[torch.Tensor]) -> list[Array]:
    """Return tensors of a device as arrays; those of a GPU are in page-locked memory.

    There is not much of such memory, so arrays that are kept for long should be copied.
    """
    import torch

    if not tensors or tensors[0].device.type != "cuda":
        return [tensor.cpu().numpy() for tensor in tensors]
    arrays = []
    for tensor in tensors:
        host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        arrays.append(host.copy_(tensor, non_blocking=True).numpy())
    torch.cuda.current_stream(tensors[0].device).synchronize()
    return arrays


@contextmanager
def alone(device: torch.device, precision: str) -> Iterator[None]:
    """On a GPU, one thread at a time, in this precision. On a CPU this changes nothing."""
    import torch

    if device.type == "cpu":
        yield
        return
    # Kernels and recordings run on the current GPU, which is not always that of their tensors.
    current = torch.cuda.device(device) if device.type == "cuda" else nullcontext()
    with GPU, current, convolutions_in(precision):
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
