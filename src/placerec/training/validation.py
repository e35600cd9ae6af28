"""The recall of the network during a training, and the signs that the training has collapsed.

The recall uses global descriptors without PCA, and no re-ranking. As published, every query
searches the database of its own city, and the queries of all cities are counted together. Queries
without a positive are omitted (``evaluation.scoring.metrics``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from placerec.errors import PlacerecError
from placerec.evaluation.dataset import Search
from placerec.evaluation.scoring.metrics import RECALL_AT, recalls
from placerec.method.ranking import best_first
from placerec.records import Array

Describe = Callable[[Sequence[Path]], Array]  # photos to descriptors (n, D) of unit length

STUCK_STEPS = 100  # consecutive steps with a loss equal to the margin
STUCK_SHARE = 1e-3  # maximum difference from the margin, as a share of the margin
POSITIONS = "check that the positions are right (positives must show the same place), "
EQUAL_COSINE = 1.0 - 1e-5  # above this mean cosine, the network describes all photos alike


def validate(searches: Sequence[Search], describe: Describe) -> dict[str, float]:
    """Return ``recall@1``, ``recall@5`` and ``recall@10`` over the queries of all ``searches``.

    Photos of equal similarity keep the order of the database.
    """
    ranked: dict[str, list[str]] = {}
    positives: dict[str, frozenset[str]] = {}
    for part, search in enumerate(searches):
        database = describe(search.database.paths)
        similarity = describe(search.queries.paths) @ database.T
        order = best_first(similarity, axis=1)[:, : max(RECALL_AT)]
        for query, rows in enumerate(order.tolist()):
            name = f"{part} {query}"
            ranked[name] = [str(row) for row in rows]
            positives[name] = frozenset(str(row) for row in search.positives[query])
    return recalls(ranked, positives)


def check_finite(loss: float, check: str = "") -> None:
    """Raise if a loss is not finite; ``check`` says what else than the steps may be wrong."""
    if not math.isfinite(loss):
        raise _collapsed(f"the loss is {loss}", check)


def check_loss(recent: Sequence[float], margin: float) -> None:
    """Raise if the last loss is not finite, or if the last 100 losses equal the margin."""
    check_finite(recent[-1], POSITIONS)
    last = recent[-STUCK_STEPS:]
    if len(last) == STUCK_STEPS and all(abs(x - margin) < STUCK_SHARE * margin for x in last):
        raise _collapsed(
            f"for {STUCK_STEPS} steps the loss is the margin ({margin:.4f}), so positives and "
            f"negatives are equally far away"
        )


def check_descriptors(descriptors: Array) -> None:
    """Raise if unit descriptors (n, D) are not finite, or if all of them are equal."""
    if not np.isfinite(descriptors).all():
        raise _collapsed("a descriptor is not finite")
    mean = descriptors.mean(axis=0, dtype=np.float64)
    if len(descriptors) > 1 and float(mean @ mean) > EQUAL_COSINE:
        raise _collapsed(f"the descriptors of {len(descriptors)} photos are all equal")


def _collapsed(sign: str, check: str = POSITIONS) -> PlacerecError:
    return PlacerecError(
        f"the training has collapsed: {sign}; {check}use a smaller learning_rate, and train into "
        f"another folder"
    )
