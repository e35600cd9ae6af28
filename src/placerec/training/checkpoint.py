"""A training that is killed goes on as if it had not been: everything that decides the next step.

A checkpoint holds the network, the optimiser, the loss scale, both random generators, and where
the run stands: epoch, drawn queries, portion, its mined triplets, batch, best recall. It is
written beside, synchronised and renamed, so that a kill leaves the last whole one. It is read with
``weights_only``, so a foreign file runs nothing.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from placerec.errors import Damaged, UsageError
from placerec.files import atomic_write
from placerec.records import Array
from placerec.training.network import Network
from placerec.training.schedule import Schedule

FORMAT = "placerec-training-1"
CHECKPOINT, BEST = "checkpoint.pt", "best.safetensors"
MAY_CHANGE = ("epochs", "patience", "pca_dim", "pca_photos")  # do not touch what has been done
NO_QUERIES = np.zeros(0, np.int64)


@dataclass(slots=True)
class Run:
    """Where a training stands. ``order`` (n,): queries of the epoch, empty before they are drawn.

    ``triplets`` (t, 2 + negatives): those of the current portion, none before it is mined;
    ``batch``: how many batches of them are done. ``best``: the recall that chose the best
    epoch, and recall@1. ``rows`` of the log, ``recent`` losses, ``seconds`` spent.
    """

    epoch: int = 0
    step: int = 0
    order: Array = field(default_factory=lambda: NO_QUERIES)
    portion: int = 0
    triplets: Array | None = None
    batch: int = 0
    validated: bool = False
    best: tuple[float, float] = (-1.0, -1.0)
    best_epoch: int = 0
    not_improved: int = 0
    rows: int = 0
    recent: list[float] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Basis:
    """What a run rests on, and a resumed one must find again: numbers, photos, trunk."""

    schedule: Schedule
    photos: str  # TrainingSet.digest
    trunk: str  # sha256


@dataclass(slots=True)
class Learner:
    """What a step changes: network, optimiser, loss scale, random numbers, and the run."""

    network: Network
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    rng: np.random.Generator
    run: Run = field(default_factory=Run)


def save_checkpoint(folder: Path, learner: Learner, basis: Basis) -> None:
    """Write ``folder/checkpoint.pt``, whole or not at all."""
    run = {
        name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
        for name, value in _values(learner.run).items()
    }
    content = {
        "format": FORMAT,
        "schedule": json.dumps(basis.schedule.as_dict()),
        "photos": basis.photos,
        "trunk": basis.trunk,
        "network": learner.network.state_dict(),
        "optimiser": learner.optimiser.state_dict(),
        "scaler": learner.scaler.state_dict(),
        "numpy_rng": json.dumps(learner.rng.bit_generator.state),
        "torch_rng": torch.get_rng_state(),
        "run": run,
    }
    with atomic_write(folder / CHECKPOINT) as partial:
        torch.save(content, partial)


def load_checkpoint(folder: Path, learner: Learner, basis: Basis) -> None:
    """Bring ``learner`` to where ``folder/checkpoint.pt`` was written."""
    path = folder / CHECKPOINT
    content = _read(path)
    _check_same(path, content, basis)
    learner.network.load_state_dict(content["network"])
    learner.optimiser.load_state_dict(content["optimiser"])
    learner.scaler.load_state_dict(content["scaler"])
    learner.rng.bit_generator.state = json.loads(content["numpy_rng"])
    torch.set_rng_state(content["torch_rng"])
    values: dict[str, Any] = {
        name: value.numpy() if isinstance(value, torch.Tensor) else value
        for name, value in content["run"].items()
    }
    learner.run = Run(**{**values, "best": tuple(values["best"])})


def save_best(folder: Path, network: Network) -> None:
    """Write the network as ``folder/best.safetensors``, whole or not at all."""
    from safetensors.torch import save_file

    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    with atomic_write(folder / BEST) as partial:
        save_file(tensors, partial)


def load_best(folder: Path, network: Network) -> None:
    """The network of the best epoch so far."""
    from safetensors.torch import load_file

    network.load_state_dict(load_file(folder / BEST))


def _values(run: Run) -> dict[str, Any]:
    return {field.name: getattr(run, field.name) for field in dataclasses.fields(run)}


def _read(path: Path) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["format"] == FORMAT:
            return dict(content)
        why = f"its format is {content['format']!r}"
    except OSError:
        raise
    except Exception as error:  # torch raises nearly anything on a damaged file
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise Damaged(f"{path}: no checkpoint of this program ({why}); begin anew in another folder")


def _check_same(path: Path, content: dict[str, Any], basis: Basis) -> None:
    begun = json.loads(content["schedule"])
    for name, value in basis.schedule.as_dict().items():
        if name not in MAY_CHANGE and begun.get(name) != value:
            raise UsageError(
                f"{path}: the run was begun with {name} {begun.get(name)}, not {value}; give the "
                f"same options, or train into another folder"
            )
    for what, now in (("photos", basis.photos), ("trunk", basis.trunk)):
        if content[what] != now:
            raise UsageError(
                f"{path}: the run was begun with other {what} (or positions); give the same, or "
                f"train into another folder"
            )
