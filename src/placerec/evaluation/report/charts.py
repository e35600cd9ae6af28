"""The curves of a run: recall over the number of answers, and precision over recall."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from placerec.evaluation.report.rendering import evenly
from placerec.evaluation.report.tables import Column, rankings
from placerec.evaluation.scoring.metrics import CUTS
from placerec.evaluation.scoring.scores import Scores
from placerec.records import Array

LEFT, RIGHT, TOP, BOTTOM = 48, 436, 34, 284  # edges of the plot, in units of the view box
MAX_POINTS = 600  # per line: the plot has fewer pixels
FEW_POINTS = 10  # each is shown as a dot
RADIUS = 3.5  # of a dot

# A ranking with the values of its line (n, 2) or (n, 4): x and y, lowest and highest y.
Line = tuple[Column, Array]
Ticks = list[tuple[float, str]]  # position on the axis, label


def charts(scores: Scores) -> list[dict[str, object]]:
    """Return the charts that the scores have values for."""
    return [drawn for drawn in (_recall_chart(scores), _precision_chart(scores)) if drawn]


def _recall_chart(scores: Scores) -> dict[str, object] | None:
    """Recall with its interval over the logarithm of the number of answers."""
    lines, descriptions, last = [], [], 1
    for column in rankings(scores.pooled):
        estimates = [(n, column.measures[f"recall@{n}"]) for n in CUTS]
        rows = [(n, e.value, e.low, e.high) for n, e in estimates if e.value is not None]
        values = np.array(rows, np.float64).reshape(-1, 4)
        values[:, 0] = np.log(values[:, 0])
        lines.append((column, values))
        points = ", ".join(f"{100 * value:.1f} % at {n}" for n, value, *_ in rows)
        descriptions.append(f"{column.label}: {points}")
        last = max([last, *(n for n, *_ in rows)])
    if last == 1:
        return None
    ticks = [(math.log(n), str(n)) for n in CUTS if n <= last]
    labels = {"title": "Recall at N", "x_label": "number of answers, N", "y_label": "recall@N"}
    return chart(lines, ticks, description="; ".join(descriptions), **labels)


def _precision_chart(scores: Scores) -> dict[str, object] | None:
    lines = []
    for column, name in zip(rankings(scores.pooled), ("retrieved", "reranked"), strict=False):
        curve = scores.curves.get(name)
        if curve is not None and len(curve.recall):
            lines.append((column, np.stack((curve.recall, curve.precision), axis=1)))
    if not lines:
        return None
    description = "Precision of the first answers against recall, accepted by falling score."
    labels = {"title": "Precision and recall", "x_label": "recall", "y_label": "precision"}
    ticks = [(n / 5, f"{20 * n} %") for n in range(6)]
    return chart(lines, ticks, description=description, **labels)


def chart(lines: Sequence[Line], x_ticks: Ticks, **labels: str) -> dict[str, Any]:
    """Return what the template draws, in units of the view box; each axis ends at its last tick."""
    y_ticks = _percent_ticks(np.concatenate([values[:, 1:3].ravel() for _, values in lines]))

    def x(values: Array | float) -> Any:
        return np.interp(values, (x_ticks[0][0], x_ticks[-1][0]), (LEFT, RIGHT))

    def y(values: Array | float) -> Any:
        return np.interp(values, (y_ticks[0][0], y_ticks[-1][0]), (BOTTOM, TOP))

    drawn = []
    for column, values in lines:
        finite = evenly(values[np.isfinite(values[:, :2]).all(axis=1)], MAX_POINTS)
        points = list(zip(x(finite[:, 0]), y(finite[:, 1]), strict=True))
        has_interval = values.shape[1] == 4
        # The outline of the interval: along its highest values, then back along its lowest.
        band = np.concatenate((values[:, [0, -1]], values[::-1, [0, -2]]))
        is_complete = has_interval and np.isfinite(band).all()
        drawn.append({
            "label": column.label, "kind": column.kind, "points": points,
            "band": list(zip(x(band[:, 0]), y(band[:, 1]), strict=True)) if is_complete else [],
            "dots": points if has_interval or len(points) <= FEW_POINTS else [],
            "radii": [RADIUS] * len(points),
        })  # fmt: skip
    return {
        "lines": drawn, "x_ticks": [(x(value), label) for value, label in x_ticks],
        "y_ticks": [(y(value), label) for value, label in y_ticks], **labels,
    }  # fmt: skip


def _percent_ticks(values: Array) -> Ticks:
    """Return ticks up to 100 % from the multiple of 10 % below the smallest of ``values``.

    They start at 0 if a value is below 50 %.
    """
    low = math.floor(10 * np.min(values[np.isfinite(values)], initial=1.0) + 1e-9) / 10
    low = 0.0 if low < 0.5 else min(low, 0.9)
    step = 0.2 if low < 0.5 else 0.1 if low < 0.8 else 0.05 if low < 0.9 else 0.02
    ticks = [low + n * step for n in range(round((1 - low) / step) + 1)]
    return [(tick, f"{100 * tick:.0f} %") for tick in ticks]
