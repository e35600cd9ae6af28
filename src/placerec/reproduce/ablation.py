"""The ablation: one or three patch sizes x scorer, at 512 dimensions (the paper's Table 2)."""

from __future__ import annotations

from itertools import pairwise

from placerec.reproduce.folder import Row, TextRow
from placerec.reproduce.plots import Axes, bars
from placerec.reproduce.study import Study
from placerec.reproduce.table import (
    MULTI,
    ONE,
    PUBLISHED_SCORERS,
    RECALLS,
    SCORERS,
    SINGLE,
    THREE,
    Table,
    cell,
    highest,
    lowest,
    verdicts,
)

# Table 2 on MSLS validation, from the lowest recall@1 to the highest.
PUBLISHED_ORDER = tuple((sizes, scorer) for sizes in (ONE, THREE) for scorer in PUBLISHED_SCORERS)
ORDER_NOTE = (
    "Published order by recall@1 (Table 2, MSLS validation): one size spatial < one size RANSAC "
    "< three sizes spatial < three sizes RANSAC."
)


def rows(study: Study) -> list[Row]:
    """NetVLAD and six re-rankings of its candidates."""
    variants = [(sizes, study.dim, scorer) for sizes in (SINGLE, MULTI) for scorer in SCORERS]
    return [{**row, "dim": study.dim} for row in study.variant_rows(variants)]


def notes(written: list[TextRow]) -> list[str]:
    """Compare the order of the variants with the paper's."""
    netvlad, variants = cell(method="NetVLAD"), {
        (sizes, scorer): cell(sizes=sizes, scorer=scorer)
        for sizes in (ONE, THREE) for scorer in SCORERS
    }  # fmt: skip
    published = [variants[variant] for variant in PUBLISHED_ORDER]
    claims = [
        (f"sizes {' '.join(low)} < sizes {' '.join(high)}", variants[high], variants[low])
        for low, high in pairwise(PUBLISHED_ORDER)
    ]
    claims += [
        ("One size, spatial above RANSAC (Table 2, Pittsburgh 30k: 88.0 against 87.3)",
         variants[ONE, "spatial"], variants[ONE, "ransac"]),
        ("Every published variant is above NetVLAD", lowest(*published), netvlad),
    ]  # fmt: skip
    for sizes in (ONE, THREE):
        both = highest(*(variants[sizes, scorer] for scorer in PUBLISHED_SCORERS))
        claim = f"Displacement (ours) above both published scorers, sizes {sizes}"
        claims.append((claim, variants[sizes, "displacement"], both))
    return [ORDER_NOTE, *verdicts(written, claims)]


def panel(axes: Axes, rows: list[TextRow]) -> None:
    """recall@1 by scorer, one and three sizes side by side; NetVLAD is a line."""
    recall = {(row["sizes"], row["scorer"]): float(row["recall@1"]) for row in rows}
    series = {f"sizes {sizes}": [recall[sizes, s] for s in SCORERS] for sizes in (ONE, THREE)}
    bars(axes, SCORERS, series, "scorer")
    axes.axhline(recall["", ""], color="black", linestyle="--", label="NetVLAD")


TABLE = Table(("method", "sizes", "scorer", "dim", *RECALLS), rows, notes, panel, MULTI)
