"""One process or several: each takes a part of the work, and the parts are joined.

Under ``torchrun``, each process trains on its share of every batch with PyTorch's
``DistributedDataParallel``, and describes its share of the photos. All processes mine the same
triplets, because they have the same seed and the same descriptors. Only the first process writes.
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
    """Process number ``rank`` of ``count``, which computes on ``device``."""

    rank: int = 0
    count: int = 1
    device: str = "cpu"

    @property
    def first(self) -> bool:
        """Whether this process writes files and messages."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return the part of ``items`` for this process: every ``count``-th item."""
        return items[self.rank :: self.count]

    def gather(self, share: Array, total: int) -> Array:
        """Return the rows (total, D) of all processes in order; ``share`` are this one's rows.

        The rows are added, and all but one addend are zero, so nothing is rounded.
        """
        if self.count == 1:
            return share
        rows = torch.zeros((total, share.shape[1]), dtype=torch.float32)
        rows[self.rank :: self.count] = torch.from_numpy(share)
        rows = rows.to(self.device)
        distributed.all_reduce(rows)
        gathered: Array = rows.cpu().numpy()
        return gathered

    def wait(self) -> None:
        """Wait until every process has called this."""
        if self.count > 1:
            distributed.barrier()


@contextmanager
def joined_processes(device: str) -> Iterator[Processes]:
    """Join the processes that ``torchrun`` started, for the duration of a block.

    Without ``torchrun`` there is one process. With several, ``device`` cuda becomes the GPU with
    the local number of the process.
    """
    kind = device.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise UsageError(f"device {device!r}: must be cpu or cuda")
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
