"""One process or several: who takes which part, and how parts become one.

Under ``torchrun`` each process trains on its share of every batch with PyTorch's
``DistributedDataParallel`` and describes its share of the photos; all of them mine the same
triplets, because they have the same seed and the same descriptors. Only the first one writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import distributed

from placerec.errors import UsageError
from placerec.records import Array

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Processes:
    """Number ``rank`` of ``count`` processes, computing on ``device``."""

    rank: int = 0
    count: int = 1
    device: str = "cpu"

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and talks."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """The part of ``items`` that is this process's: every ``count``-th."""
        return items[self.rank :: self.count]

    def together(self, own: Array, total: int) -> Array:
        """The rows (total, D) of all processes in order, from this one's share of them.

        A sum in which all but one addend is zero: no rounding.
        """
        if self.count == 1:
            return own
        rows = torch.zeros((total, own.shape[1]), dtype=torch.float32)
        rows[self.rank :: self.count] = torch.from_numpy(own)
        rows = rows.to(self.device)
        distributed.all_reduce(rows)
        whole: Array = rows.cpu().numpy()
        return whole

    def wait(self) -> None:
        """Until every process has come here."""
        if self.count > 1:
            distributed.barrier()


@contextmanager
def joined_processes(device: str) -> Iterator[Processes]:
    """The processes that ``torchrun`` started, joined for the time of a block; else just this one.

    ``device`` cuda becomes the GPU of this process's local number.
    """
    kind = device.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise UsageError(f"device {device!r}: choose cpu or cuda")
    if kind == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"device {device}: PyTorch finds no such device; use cpu")
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes(0, 1, device)
        return
    if kind == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if kind == "cuda" else "gloo")
    try:
        yield Processes(distributed.get_rank(), count, device)
    finally:
        distributed.destroy_process_group()
