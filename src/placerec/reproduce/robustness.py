"""Robustness: recall@1 if the pixels of the queries are disturbed (ours, no table of the paper).

Retrieval and re-ranking use the disturbed photo; the database does not change. There is one patch
size (5) at 512 dimensions.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from placerec.records import Array
from placerec.reproduce.folder import Row, TextRow
from placerec.reproduce.matches import FeatureMapFiles
from placerec.reproduce.plots import Axes, bars, series_of
from placerec.reproduce.study import Study
from placerec.reproduce.table import RECALLS, SINGLE, Table, verdict

NOISE_SEED = 0
SCORERS = ("spatial", "displacement")


class Disturbance(NamedTuple):
    """``change`` takes pixels (H, W, 3) uint8 and a level in ``unit``, and returns pixels."""

    change: Callable[..., Array]
    levels: tuple[float, ...]
    unit: str


def _affine(pixels: Array, matrix: tuple[float, float, float, float], right: float = 0.0) -> Array:
    """Move pixels by an affine map about the centre; unknown pixels become grey."""
    height, width = pixels.shape[:2]
    x, y = width / 2, height / 2
    a, b, c, d = matrix
    inverse = (a, b, x - a * x - b * y - right, c, d, y - c * x - d * y)
    moved = Image.fromarray(pixels).transform(
        (width, height), Image.Transform.AFFINE, inverse, Image.Resampling.BILINEAR,
        fillcolor=(127, 127, 127),
    )  # fmt: skip
    return np.asarray(moved)


def _rotated(pixels: Array, level: float) -> Array:
    c, s = float(np.cos(np.radians(level))), float(np.sin(np.radians(level)))
    return _affine(pixels, (c, s, -s, c))


def _shifted(pixels: Array, level: float) -> Array:
    return _affine(pixels, (1, 0, 0, 1), level * pixels.shape[1])


def _scaled(pixels: Array, level: float) -> Array:
    return _affine(pixels, (1 / level, 0, 0, 1 / level))


def _brighter(pixels: Array, level: float) -> Array:
    changed: Array = np.clip(pixels * level, 0, 255).round().astype(np.uint8)
    return changed


def _noisy(pixels: Array, level: float) -> Array:
    noise = np.random.default_rng(NOISE_SEED).normal(0.0, level, pixels.shape)
    return _brighter(pixels + noise, 1.0)


DISTURBANCES = {
    "none": Disturbance(lambda pixels, **_: pixels, (0.0,), ""),
    "rotation": Disturbance(_rotated, (5.0, 10.0, 20.0), "degrees clockwise"),
    "shift": Disturbance(_shifted, (0.15, 0.3), "share of the width"),
    "scale": Disturbance(_scaled, (0.8, 1.25), "zoom"),
    "brightness": Disturbance(_brighter, (0.4, 1.6), "gain"),
    "noise": Disturbance(_noisy, (15.0, 40.0), "deviation of 255"),
}  # fmt: skip


def rows(study: Study) -> list[Row]:
    """NetVLAD and two scorers at every level; each database photo is described once for all."""
    dim, queries, folder = study.dim, study.search.queries.paths, study.cache / "disturbed"
    levels = [(kind, level) for kind, (_, levels, _) in DISTURBANCES.items() for level in levels]
    files: list[Path] = []
    for kind, level in levels:
        name, change = f"{kind} {level:g}", partial(DISTURBANCES[kind].change, level=level)
        files += study.feature_maps(queries, f"queries, {name}", change, folder / name).files
    variants = [(SINGLE, dim, scorer) for scorer in SCORERS]
    matches = study.matches(variants, queries=FeatureMapFiles(files))
    orders = {"NetVLAD": matches.lists}
    orders |= {variant[2]: matches.orders(*variant) for variant in variants}
    table = []
    for number, (kind, level) in enumerate(levels):
        part = slice(number * len(queries), (number + 1) * len(queries))
        cells = {"disturbance": kind, "level": level, "unit": DISTURBANCES[kind].unit, "dim": dim}
        table += [study.row(o[part], **cells, method=method) for method, o in orders.items()]
    shutil.rmtree(folder, ignore_errors=True)
    return table


def notes(written: list[TextRow]) -> list[str]:
    """Check whether re-ranking stays above NetVLAD at every level."""
    answers = ["Each disturbance is applied alone; 'none' is the original query."]
    for kind, rows in series_of(written, "disturbance").items():
        for method in SCORERS:
            claim = f"{kind}: {method} stays above NetVLAD at every level"
            answers.append(verdict(claim, rows, partial(_smallest_lead, method), lambda _: 0.0))
    return answers


def _smallest_lead(method: str, rows: Sequence[TextRow]) -> float:
    recalls = {(row["level"], row["method"]): float(row["recall@1"]) for row in rows}
    return min(recalls[row["level"], method] - recalls[row["level"], "NetVLAD"] for row in rows)


def panel(axes: Axes, rows: list[TextRow]) -> None:
    """recall@1 by disturbance and level."""
    methods = series_of(rows, "method")
    levels = [f"{row['disturbance']} {row['level']}" for row in methods["NetVLAD"]]
    recalls = {name: [float(row["recall@1"]) for row in line] for name, line in methods.items()}
    units = ", ".join(f"{kind}: {unit}" for kind, (*_, unit) in DISTURBANCES.items() if unit)
    bars(axes, levels, recalls, f"disturbance of the query\n({units})")
    axes.xaxis.label.set_fontsize(6)
    axes.tick_params(axis="x", labelsize=7, labelrotation=70)


TABLE = Table(
    ("disturbance", "level", "unit", "method", "dim", *RECALLS), rows, notes, panel, SINGLE
)
