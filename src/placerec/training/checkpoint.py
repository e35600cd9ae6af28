"""The checkpoint of a training: everything that decides its next step.

A run that is killed and resumed gives the same bits as a run that is never killed. A checkpoint
holds the network, the optimiser, the loss scale, both random generators, and the position of the
run (``Run``). It is written atomically, so a killed run leaves the previous checkpoint. It is read
with ``weights_only``, so a foreign file cannot run code.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import nn

from placerec.errors import Damaged, UsageError
from placerec.files import atomic_write
from placerec.records import Array
from placerec.schedule import InvarianceSchedule, Schedule

FORMAT = "placerec-training-1"
CHECKPOINT, BEST = "checkpoint.pt", "best.safetensors"
MAY_CHANGE = ("epochs", "patience", "pca_dim", "pca_photos")  # these affect no past step
PARTS = ("network", "optimiser", "scaler")  # of a learner, each with a state dictionary
NO_QUERIES = np.zeros(0, np.int64)


@dataclass
class Run:
    """The position of a training of any recipe.

    ``step`` is the number of finished steps, ``rows`` that of the rows of the log. ``seconds`` add
    up over all parts of a resumed run.
    """

    step: int = 0
    rows: int = 0
    seconds: float = 0.0


@dataclass
class TripletRun(Run):
    """The position of a training on triplets.

    ``order`` (n,) are the queries of the epoch, empty before they are drawn. ``triplets``
    (t, 2 + negatives) belong to the current portion; ``None`` before they are mined. ``batch`` is
    the number of finished batches of the portion. ``best`` is the recall that selected the best
    epoch, and recall@1. ``recent`` are the last losses.
    """

    epoch: int = 0
    order: Array = field(default_factory=lambda: NO_QUERIES)
    portion: int = 0
    triplets: Array | None = None
    batch: int = 0
    validated: bool = False
    best: tuple[float, float] = (-1.0, -1.0)
    best_epoch: int = 0
    not_improved: int = 0
    recent: list[float] = field(default_factory=list)


@dataclass
class InvarianceRun(Run):
    """The position of an invariance training.

    ``recent`` are the parts of the last losses. ``before`` are recall@1 and the mean reciprocal
    rank of the start.
    """

    recent: list[tuple[float, float]] = field(default_factory=list)
    before: tuple[float, float] = (0.0, 0.0)


Net = TypeVar("Net", bound=nn.Module)
Position = TypeVar("Position", bound=Run)


@dataclass(slots=True)
class Learner(Generic[Net, Position]):
    """What a step changes: network, optimiser, loss scale, random numbers, and the run.

    No step changes ``schedule`` and the sha256 (hex) of ``photos`` (``TrainingSet.digest``) and
    ``trunk``. A resumed run must have the same.
    """

    schedule: Schedule | InvarianceSchedule
    photos: str
    trunk: str
    network: Net
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    rng: np.random.Generator
    run: Position


def save(folder: Path, learner: Learner[Any, Any]) -> None:
    """Write ``folder/checkpoint.pt`` atomically."""
    content = {
        "format": FORMAT,
        "recipe": learner.schedule.recipe,
        "schedule": json.dumps(dataclasses.asdict(learner.schedule)),
        "photos": learner.photos,
        "trunk": learner.trunk,
        **{part: getattr(learner, part).state_dict() for part in PARTS},
        "numpy_rng": json.dumps(learner.rng.bit_generator.state),
        "torch_rng": torch.get_rng_state(),
        "run": {
            name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
            for name, value in vars(learner.run).items()
        },
    }
    with atomic_write(folder / CHECKPOINT) as partial:
        torch.save(content, partial)


def load(folder: Path, learner: Learner[Any, Any]) -> None:
    """Set ``learner`` to the state in ``folder/checkpoint.pt``.

    Raises ``Damaged`` if the file is not a checkpoint, and ``UsageError`` if it belongs to a run
    with another recipe, another schedule, other photos or another trunk.
    """
    path = folder / CHECKPOINT
    content = _read(path)
    stored = {**json.loads(content["schedule"]), "recipe": "published", **content}
    current = {"recipe": learner.schedule.recipe}
    current |= json.loads(json.dumps(dataclasses.asdict(learner.schedule)))
    current |= {"photos": learner.photos, "trunk": learner.trunk}
    for name, value in current.items():
        if name not in MAY_CHANGE and stored.get(name) != value:
            raise UsageError(
                f"{path}: the run started with {name} {stored.get(name)}, not {value}; use the "
                f"same, or train into another folder"
            )
    for part in PARTS:
        getattr(learner, part).load_state_dict(content[part])
    learner.rng.bit_generator.state = json.loads(content["numpy_rng"])
    torch.set_rng_state(content["torch_rng"])
    for name, value in content["run"].items():
        setattr(learner.run, name, value.numpy() if isinstance(value, torch.Tensor) else value)


def save_best(folder: Path, network: nn.Module) -> None:
    """Write the network to ``folder/best.safetensors`` atomically."""
    from safetensors.torch import save_file

    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    with atomic_write(folder / BEST) as partial:
        save_file(tensors, partial)


def load_best(folder: Path, network: nn.Module) -> None:
    """Load the network of the best epoch so far."""
    from safetensors.torch import load_file

    network.load_state_dict(load_file(folder / BEST))


def _read(path: Path) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["format"] == FORMAT:
            return dict(content)
        why = f"its format is {content['format']!r}"
    except OSError:
        raise
    except Exception as error:  # torch raises many types of errors for a damaged file
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise Damaged(f"{path}: not a checkpoint of this program ({why}); train into another folder")
