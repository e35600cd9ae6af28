"""What the report says about confidence: charts, tables, and foreign photos called in the map."""

from __future__ import annotations

from typing import Any

import numpy as np

from placerec.evaluation.predictions import FOREIGN
from placerec.evaluation.report.cases import Predictions
from placerec.evaluation.report.charts import Line, chart
from placerec.evaluation.report.tables import Column, Row, letters
from placerec.evaluation.scoring.confidence import (
    AT_COVERAGE,
    AUC,
    AUC_FOREIGN,
    BINS,
    COVERAGES,
    ERROR,
    ERROR_WITH_FOREIGN,
    FOREIGN_IN_MAP,
    REFUSED,
)
from placerec.evaluation.scoring.intervals import Estimate
from placerec.evaluation.scoring.scores import Scores

SMALLEST, LARGER = 1.5, 7.0  # radius of a dot with no answer, and what all answers add to it
MOST_SHOWN = 20  # foreign photos that were called in the map
LABELS = {
    ERROR: "calibration error",
    AUC: "right answers above wrong ones (AUC)",
    **{
        name: f"precision of the surest {100 * share:g} %" if share < 1 else "precision of all"
        for name, share in zip(AT_COVERAGE, COVERAGES, strict=True)
    },
    REFUSED: "right answers refused as not in the map",
    FOREIGN_IN_MAP: "foreign photos called in the map",
    AUC_FOREIGN: "right answers above foreign photos (AUC)",
    ERROR_WITH_FOREIGN: "calibration error with foreign photos",
}


def how_sure(scores: Scores, foreign: Predictions) -> dict[str, Any] | None:
    """Return what ``confidence.html`` shows; ``None`` if no answer has a confidence.

    ``foreign`` are the answers to foreign photos.
    """
    if scores.pooled.confidence is None:
        return None
    accepted = sorted(
        (answer for answer in foreign.values() if answer.in_map),
        key=lambda answer: (-(answer.confidence or 0.0), answer.search, answer.query),
    )
    return {
        "charts": [drawn for drawn in (_reliability(scores), _coverage(scores)) if drawn],
        "own": _table(scores.pooled.confidence, "final"),
        "open_set": scores.open_set,
        "foreign": _table(scores.open_set.measures, "global") if scores.open_set else None,
        "accepted": [
            {"name": answer.query.removeprefix(FOREIGN), "place": answer.final[0][0],
             "confidence": answer.confidence}
            for answer in accepted[:MOST_SHOWN]
        ],
        "accepted_count": len(accepted),
    }  # fmt: skip


def _table(measures: dict[str, Estimate], kind: str) -> dict[str, object]:
    rows: list[Row] = [(LABELS[name], None, [measures[name]]) for name in measures]
    return {"columns": [Column("Percent", kind, measures)], "rows": rows,
            "letters": letters(rows)}  # fmt: skip


def _reliability(scores: Scores) -> dict[str, object]:
    """The share of right answers over the confidence; on the diagonal both are equal."""
    equal = np.linspace(0.0, 1.0, 2 * BINS)  # more points than are drawn as dots
    lines: list[Line] = [(Column("ideal", "ideal", {}), np.stack((equal, equal), axis=1))]
    groups = [("queries", "final", scores.reliability)]
    if scores.open_set:
        groups.insert(0, ("with foreign photos", "global", scores.open_set.reliability))
    descriptions = []
    for label, kind, bins in groups:
        points = np.array([(row.mean_confidence, row.right) for row in bins])
        lines.append((Column(label, kind, {}), points))
        words = ", ".join(f"{100 * y:.0f} % at {100 * x:.0f} %" for x, y in points.tolist())
        descriptions.append(f"Right {label}: {words}")
    ticks = [(n / 5, f"{20 * n} %") for n in range(6)]
    drawn = chart(
        lines, ticks, title="Reliability", x_label="confidence", y_label="right",
        description="; ".join(descriptions),
    )  # fmt: skip
    for line, (_, _, bins) in zip(drawn["lines"][1:], groups, strict=True):
        line["radii"] = [SMALLEST + LARGER * row.share**0.5 for row in bins]
    return drawn


def _coverage(scores: Scores) -> dict[str, object] | None:
    """The precision of the surest answers, with its interval, over their share."""
    measures = scores.pooled.confidence or {}
    estimates = [
        (share, measures[name]) for share, name in zip(COVERAGES, AT_COVERAGE, strict=True)
    ]
    rows = [
        (share, e.value, e.low, e.high) for share, e in reversed(estimates) if e.value is not None
    ]
    if not rows:
        return None
    points = ", ".join(
        f"{100 * value:.1f} % of the surest {100 * at:g} %" for at, value, *_ in rows
    )
    ticks = [(n / 10, f"{10 * n} %") for n in range(5, 11)]
    return chart(
        [(Column("queries", "final", {}), np.array(rows, np.float64))], ticks,
        title="Precision of the surest answers", x_label="share of the answers, surest first",
        y_label="precision", description=f"Right answers: {points}",
    )  # fmt: skip
