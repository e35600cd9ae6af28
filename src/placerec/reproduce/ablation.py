"""The ablation: one or three patch sizes x scorer, at 512 dimensions (the paper's Table 2)."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from placerec.reproduce.claims import Value, cell, highest, lowest, verdict
from placerec.reproduce.folder import Row
from placerec.reproduce.plots import TextRow, bars
from placerec.reproduce.scores import MULTI, SINGLE
from placerec.reproduce.study import Study
from placerec.reproduce.table import RECALLS, Table, size_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCORERS = ("spatial", "ransac", "displacement")
ONE, THREE = size_label(SINGLE), size_label(MULTI)
# Table 2 on MSLS validation, from the lowest recall@1 to the highest.
PUBLISHED_ORDER = ((ONE, "spatial"), (ONE, "ransac"), (THREE, "spatial"), (THREE, "ransac"))

ORDER_NOTE = (
    "Published order by recall@1 (Table 2, MSLS validation): one size spatial < one size RANSAC "
    "< three sizes spatial < three sizes RANSAC."
)


def rows(study: Study) -> list[Row]:
    """NetVLAD and six re-rankings of its candidates."""
    dim = study.dim
    scores = study.scores([(size, dim) for size in MULTI])
    found = [study.row(study.ranked(scores.lists), method="NetVLAD", dim=dim)]
    for sizes in (SINGLE, MULTI):
        for scorer in SCORERS:
            ranked = study.ranked(scores.orders(scorer, sizes, dim))
            cells = {"method": "re-ranked", "sizes": size_label(sizes), "scorer": scorer}
            found.append(study.row(ranked, dim=dim, **cells))
    return found


def notes(written: list[TextRow]) -> list[str]:
    """Where the order of the variants is the paper's."""
    netvlad, (spatial, ransac) = cell(method="NetVLAD"), (_at(one) for one in PUBLISHED_ORDER[:2])
    answers = [ORDER_NOTE]
    for low, high in pairwise(PUBLISHED_ORDER):
        answers.append(verdict(f"{_told(low)} < {_told(high)}", written, _at(high), _at(low)))
    told = "One size, spatial above RANSAC (Table 2, Pittsburgh 30k: 88.0 against 87.3)"
    answers.append(verdict(told, written, spatial, ransac))
    told = "Every published variant is above NetVLAD"
    answers.append(verdict(told, written, lowest(*map(_at, PUBLISHED_ORDER)), netvlad))
    for sizes in (ONE, THREE):
        told = f"Displacement (ours) above both published scorers, sizes {sizes}"
        both = highest(*(_at((sizes, scorer)) for scorer in SCORERS[:2]))
        answers.append(verdict(told, written, _at((sizes, "displacement")), both))
    return answers


def _at(variant: tuple[str, str]) -> Value:
    return cell(sizes=variant[0], scorer=variant[1])


def _told(variant: tuple[str, str]) -> str:
    return f"sizes {variant[0]} {variant[1]}"


def panel(axes: Axes, mine: list[TextRow]) -> None:
    """recall@1 by scorer, one and three sizes side by side; NetVLAD as a line."""
    bars(
        axes, SCORERS,
        {f"sizes {sizes}": [_at((sizes, scorer))(mine) for scorer in SCORERS]
         for sizes in (ONE, THREE)},
        "recall@1 (share of queries)",
    )  # fmt: skip
    netvlad = cell(method="NetVLAD")(mine)
    axes.axhline(netvlad, color="black", linestyle="--", label="NetVLAD")
    axes.set_xlabel("scorer")


TABLE = Table(("method", "sizes", "scorer", "dim", *RECALLS), rows, notes, panel, MULTI)
