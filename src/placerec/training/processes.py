"""One process or several: each takes a part of the work, and the parts are joined.

Under ``torchrun``, each process trains on its share of every batch with PyTorch's
``DistributedDataParallel``, and describes its share of the photos. All processes mine the same
triplets, because they have the same seed and the same descriptors. Only the first process writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from placerec.errors import UsageError
from placerec.records import Array


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

    @property
    def share(self) -> slice:
        """The part of a list that this process works on: every ``count``-th item."""
        return slice(self.rank, None, self.count)

    def gather(self, rows_of_share: Array, total: int) -> Array:
        """Return the rows (total, D) of all processes in order.

        The rows are added, and all but one addend are zero, so nothing is rounded.
        """
        if self.count == 1:
            return rows_of_share
        rows = torch.zeros((total, rows_of_share.shape[1]), dtype=torch.float32)
        rows[self.share] = torch.from_numpy(rows_of_share)
        rows = rows.to(self.device)
        distributed.all_reduce(rows)
        gathered: Array = rows.cpu().numpy()
        return gathered

    def parallel(self, network: nn.Module) -> nn.Module:
        """Return ``network`` with gradients that are averaged over the processes."""
        if self.count == 1:
            return network
        gpus = [torch.device(self.device)] if self.device.startswith("cuda") else None
        return DistributedDataParallel(network, device_ids=gpus)

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
