"""Robustness: recall@1 when the pixels of the queries are disturbed (ours, no table of the paper).

Retrieval and re-ranking are asked anew with the disturbed photo; the database stays as it is.
One patch size (5) at 512 dimensions.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from placerec.records import Array
from placerec.reproduce.claims import Value, cell, lowest, verdict
from placerec.reproduce.folder import Row, digest
from placerec.reproduce.maps import Maps
from placerec.reproduce.plots import TextRow, series_of, style
from placerec.reproduce.scores import SINGLE
from placerec.reproduce.study import Study
from placerec.reproduce.table import RECALLS, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NOISE_SEED = 0
SCORERS = ("spatial", "displacement")
UNITS = {
    "none": "",
    "rotation": "degrees clockwise",
    "shift": "share of the width",
    "scale": "zoom",
    "brightness": "gain",
    "noise": "deviation of 255",
}
LEVELS: dict[str, tuple[float, ...]] = {
    "none": (0.0,),
    "rotation": (5.0, 10.0, 20.0),
    "shift": (0.15, 0.3),
    "scale": (0.8, 1.25),
    "brightness": (0.4, 1.6),
    "noise": (15.0, 40.0),
}


def _affine(pixels: Array, matrix: tuple[float, ...]) -> Array:
    """Pixels moved by an affine map about the middle; grey where nothing is known."""
    height, width = pixels.shape[:2]
    a, b, c, d, e, f = matrix
    x, y = width / 2, height / 2
    about = (a, b, c + x - a * x - b * y, d, e, f + y - d * x - e * y)
    moved = Image.fromarray(pixels).transform(
        (width, height), Image.Transform.AFFINE, about, Image.Resampling.BILINEAR,
        fillcolor=(127, 127, 127),
    )  # fmt: skip
    return np.asarray(moved)


def _rotation(pixels: Array, level: float) -> Array:
    """Turned clockwise by ``level`` degrees."""
    c, s = np.cos(np.radians(level)), np.sin(np.radians(level))
    return _affine(pixels, (float(c), float(s), 0.0, float(-s), float(c), 0.0))


def _shift(pixels: Array, level: float) -> Array:
    return _affine(pixels, (1.0, 0.0, -level * pixels.shape[1], 0.0, 1.0, 0.0))


def _scale(pixels: Array, level: float) -> Array:
    return _affine(pixels, (1 / level, 0.0, 0.0, 0.0, 1 / level, 0.0))


def _brightness(pixels: Array, level: float) -> Array:
    changed: Array = np.clip(pixels * level, 0, 255).round().astype(np.uint8)
    return changed


def _noise(pixels: Array, level: float) -> Array:
    noise = np.random.default_rng(NOISE_SEED).normal(0.0, level, pixels.shape)
    changed: Array = np.clip(pixels + noise, 0, 255).round().astype(np.uint8)
    return changed


DISTURBANCES: dict[str, Callable[..., Array]] = {
    "rotation": _rotation,
    "shift": _shift,
    "scale": _scale,
    "brightness": _brightness,
    "noise": _noise,
}


class _Chained(Sequence[Array]):
    """Sequences of trunk maps of one length, one behind the other."""

    def __init__(self, parts: Sequence[Sequence[Array]]) -> None:
        self.parts = parts

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, index: int) -> Array:  # type: ignore[override]
        if not 0 <= index < len(self):
            raise IndexError(index)
        part, number = divmod(index, len(self.parts[0]))
        return self.parts[part][number]


def rows(study: Study) -> list[Row]:
    """NetVLAD and two scorers at every level; all levels pass the database photos together."""
    dim, folder = study.dim, study.cache / "disturbed"
    levels = [(kind, level) for kind, some in LEVELS.items() for level in some]
    maps: list[Sequence[Array]] = []
    for kind, level in levels:
        if kind == "none":
            maps.append(study.query_maps)
            continue
        one = Maps(study.trunk, study.options.image_size, list(study.query_photos.values()), folder,
                   f"-{kind}-{level:g}")  # fmt: skip
        one.fill(
            study.options.threads, study.progress, f"queries, {kind} {level:g}",
            partial(DISTURBANCES[kind], level=level),
        )  # fmt: skip
        maps.append(one)
    label = digest(("disturbed", str(LEVELS), *study.query_maps.sha256))
    scores = study.matches(study.model, _Chained(maps), [(SINGLE[0], dim)], label)
    orders = {"NetVLAD": scores.lists}
    orders |= {scorer: scores.orders(scorer, SINGLE, dim) for scorer in SCORERS}
    found, count = [], len(study.queries)
    for number, (kind, level) in enumerate(levels):
        for method, ordered in orders.items():
            ranked = study.ranked(ordered[number * count : (number + 1) * count])
            cells = {"disturbance": kind, "level": level, "unit": UNITS[kind]}
            found.append(study.row(ranked, **cells, method=method, dim=dim))
    shutil.rmtree(folder, ignore_errors=True)
    return found


def notes(written: list[TextRow]) -> list[str]:
    """Whether re-ranking keeps its lead over NetVLAD at every level."""
    answers = ["Each disturbance stands alone; 'none' is the query as it is."]
    for kind, levels in LEVELS.items():
        some = [row for row in written if row["disturbance"] == kind]
        for method in SCORERS:
            lead = lowest(*(_lead(method, f"{level:.4g}") for level in levels))
            told = f"{kind}: {method} stays above NetVLAD at every level"
            answers.append(verdict(told, some, lead, lambda _: 0.0))
    return answers


def _lead(method: str, level: str) -> Value:
    mine, other = cell(method=method, level=level), cell(method="NetVLAD", level=level)
    return lambda rows: mine(rows) - other(rows)


def panel(axes: Axes, mine: list[TextRow]) -> None:
    """recall@1 by disturbance and level."""
    places = list(dict.fromkeys((row["disturbance"], row["level"]) for row in mine))
    for number, (method, some) in enumerate(series_of(mine, "method").items()):
        for kind, rows in series_of(some, "disturbance").items():
            where = [places.index((kind, row["level"])) for row in rows]
            label = method if kind == "none" else None
            axes.plot(where, [float(row["recall@1"]) for row in rows], label=label, **style(number))  # type: ignore[arg-type]
    axes.set_xticks(range(len(places)), [f"{kind} {level}" for kind, level in places],
                    fontsize=7, rotation=70, ha="right")  # fmt: skip
    axes.set_ylim(0.0, 1.02)
    axes.set_xlabel(f"disturbance of the query\n({_units()})", fontsize=6)
    axes.set_ylabel("recall@1 (share of queries)")


def _units() -> str:
    return ", ".join(f"{kind}: {unit}" for kind, unit in UNITS.items() if unit)


TABLE = Table(
    ("disturbance", "level", "unit", "method", "dim", *RECALLS), rows, notes, panel, SINGLE
)
