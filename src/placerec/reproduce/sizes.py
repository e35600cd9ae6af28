"""Recall against patch size: single sizes 1 to 10, several sizes, rectangles (section 4.5)."""

from __future__ import annotations

from placerec.reproduce.folder import Row, TextRow, size_label
from placerec.reproduce.plots import Axes, bars
from placerec.reproduce.study import Study
from placerec.reproduce.table import (
    MULTI,
    RECALLS,
    THREE,
    Table,
    best,
    cell,
    highest,
    verdicts,
)
from placerec.settings import Size

SCORERS = ("spatial", "displacement")
SQUARES: tuple[Size, ...] = tuple((n, n) for n in range(1, 11))
RECTANGLES: tuple[Size, ...] = ((2, 5), (5, 2), (4, 6), (6, 4), (3, 8), (8, 3))
SEVERAL = ((2, 5), (5, 8), (2, 8), (2, 5, 8), (3, 5, 7), (1, 4, 7), (4, 6, 8, 10))
SETS: dict[str, tuple[tuple[Size, ...], ...]] = {
    "square": tuple((size,) for size in SQUARES),
    "rectangle": tuple((size,) for size in RECTANGLES),
    "several square": tuple(tuple((n, n) for n in sizes) for sizes in SEVERAL),
    "several rectangles": (((2, 5), (5, 2)), ((4, 6), (6, 4)), ((2, 5), (5, 2), (3, 8), (8, 3))),
}


def rows(study: Study) -> list[Row]:
    """Every set of sizes with both scorers, at 512 dimensions, equal weights except for 2,5,8."""
    dim = study.dim
    shapes = {
        (sizes, dim, scorer): shape
        for shape, sets in SETS.items() for sizes in sets for scorer in SCORERS
    }  # fmt: skip
    rows = study.variant_rows(list(shapes))
    named = zip(rows, ["NetVLAD", *shapes.values()], strict=True)
    return [{**row, "shape": shape, "dim": dim} for row, shape in named]


def notes(written: list[TextRow]) -> list[str]:
    """Check the paper's claims on sizes, for each scorer."""
    smallest, *middle, largest = (cell(shape="square", sizes=size_label([s])) for s in SQUARES)
    published = cell(shape="several square", sizes=THREE)
    single, between, several = best(shape="square"), highest(*middle), best(shape="several square")
    rectangle, rectangles = best(shape="rectangle"), best(shape="several rectangles")
    claims = (
        ("the smallest size (1) loses to the best one in between", between, smallest),
        ("the largest size (10) loses to the best one in between", between, largest),
        (f"sizes {THREE} beat the best single square size", published, single),
        ("the best of several square sizes beats the best single one", several, single),
        ("the best square size beats the best rectangle", single, rectangle),
        ("the best of several square sizes beats the best of several rectangles", several,
         rectangles),
    )  # fmt: skip
    answers = []
    for scorer in SCORERS:
        named = [(f"{scorer}: {claim}", more, less) for claim, more, less in claims]
        answers += verdicts([row for row in written if row["scorer"] == scorer], named)
    return [*answers, "The best of several sets is chosen on the same queries, which favours it."]


def panel(axes: Axes, rows: list[TextRow]) -> None:
    """recall@1 by patch size: squares, rectangles, and the published three sizes."""
    labels = [size_label(sizes) for sizes in (*SETS["square"], *SETS["rectangle"], MULTI)]
    recall = {(row["scorer"], row["sizes"]): float(row["recall@1"]) for row in rows}
    series = {scorer: [recall[scorer, label] for label in labels] for scorer in SCORERS}
    bars(axes, labels, series, "patch size (cells)")


TABLE = Table(
    ("shape", "sizes", "scorer", "dim", *RECALLS), rows, notes, panel, SQUARES + RECTANGLES
)
