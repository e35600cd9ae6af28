"""Recall against patch size: single sizes 1 to 10, several sizes, rectangles (section 4.5)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from placerec.reproduce.claims import best, cell, highest, verdict
from placerec.reproduce.folder import Row
from placerec.reproduce.plots import TextRow, recall_limits, series_of, style
from placerec.reproduce.scores import MULTI
from placerec.reproduce.study import Study
from placerec.reproduce.table import RECALLS, Table, size_label
from placerec.settings import Size

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCORERS = ("spatial", "displacement")
SQUARES: tuple[Size, ...] = tuple((n, n) for n in range(1, 11))
RECTANGLES: tuple[Size, ...] = ((2, 5), (5, 2), (4, 6), (6, 4), (3, 8), (8, 3))
SETS: dict[str, tuple[tuple[Size, ...], ...]] = {
    "square": tuple((size,) for size in SQUARES),
    "rectangle": tuple((size,) for size in RECTANGLES),
    "several square": tuple(
        tuple((n, n) for n in sizes)
        for sizes in ((2, 5), (5, 8), (2, 8), (2, 5, 8), (3, 5, 7), (1, 4, 7), (4, 6, 8, 10))
    ),
    "several rectangles": (((2, 5), (5, 2)), ((4, 6), (6, 4)), ((2, 5), (5, 2), (3, 8), (8, 3))),
}


def rows(study: Study) -> list[Row]:
    """Every set of sizes with both scorers, at 512 dimensions, equal weights but for 2,5,8."""
    dim = study.dim
    scores = study.scores([(size, dim) for size in SQUARES + RECTANGLES])
    for size in SQUARES + RECTANGLES:  # one at a time: matches of all sizes fill the memory
        for scorer in SCORERS:
            scores.of_size(scorer, (size, dim))
        scores.drop()
    netvlad = study.row(study.ranked(scores.lists), shape="NetVLAD", dim=dim)
    return [netvlad] + [
        study.row(
            study.ranked(scores.orders(scorer, sizes, dim)),
            shape=shape, sizes=size_label(sizes), scorer=scorer, dim=dim,
        )
        for shape, many in SETS.items() for sizes in many for scorer in SCORERS
    ]  # fmt: skip


def notes(written: list[TextRow]) -> list[str]:
    """The paper's three claims on sizes, for each scorer."""
    answers = []
    published = size_label(MULTI)
    single, several = best(shape="square"), best(shape="several square")
    between = highest(*(cell(shape="square", sizes=str(n)) for n in range(2, 10)))
    for scorer in SCORERS:
        mine = [row for row in written if row["scorer"] == scorer]
        for claim, more, less in (
            ("the smallest size (1) loses to the best one in between", between,
             cell(shape="square", sizes="1")),
            ("the largest size (10) loses to the best one in between", between,
             cell(shape="square", sizes="10")),
            (f"sizes {published} beat the best single square size",
             cell(shape="several square", sizes=published), single),
            ("the best of several square sizes beats the best single one", several, single),
            ("the best square size beats the best rectangle", single, best(shape="rectangle")),
            ("the best of several square sizes beats the best of several rectangles", several,
             best(shape="several rectangles")),
        ):  # fmt: skip
            answers.append(verdict(f"{scorer}: {claim}", mine, more, less))
    return [*answers, "The best of several is taken on the same queries: more tries, more luck."]


def _of(some: list[TextRow], shape: str) -> dict[str, float]:
    return {row["sizes"]: float(row["recall@1"]) for row in some if row["shape"] == shape}


def panel(axes: Axes, mine: list[TextRow]) -> None:
    """recall@1 against the side of a square patch; the published three sizes dashed."""
    values = []
    for number, (scorer, some) in enumerate(series_of(mine[1:], "scorer").items()):
        square = _of(some, "square")
        values += [*square.values()]
        look = style(number)
        axes.plot([int(size) for size in square], list(square.values()), label=scorer, **look)  # type: ignore[arg-type]
        three = _of(some, "several square")[size_label(MULTI)]
        axes.axhline(three, color=look["color"], linestyle="--", label=f"{scorer}, 2,5,8")
        values.append(three)
        shapes = _of(some, "rectangle")
        sides = [_side(label) for label in shapes]
        axes.scatter(sides, list(shapes.values()), marker="_", s=80, color=look["color"],
                     label=f"{scorer}, rectangles")  # fmt: skip
        values += [*shapes.values()]
    recall_limits(axes, values)
    axes.set_xlabel("patch size (cells; of a rectangle the root of its area)")
    axes.set_ylabel("recall@1 (share of queries)")


def _side(label: str) -> float:
    height, width = map(int, label.split("x"))
    return math.sqrt(height * width)


TABLE = Table(
    ("shape", "sizes", "scorer", "dim", *RECALLS), rows, notes, panel, SQUARES + RECTANGLES
)
