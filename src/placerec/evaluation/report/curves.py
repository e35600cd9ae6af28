"""The two curves of a run: recall over the number of answers, precision over recall."""

from __future__ import annotations

import numpy as np

from placerec.evaluation.report.charts import Axis, Line, chart, percent_axis
from placerec.evaluation.report.markup import Markup
from placerec.evaluation.report.tables import rankings
from placerec.evaluation.scoring.metrics import CUTS
from placerec.evaluation.scoring.outcomes import Scores


def curves(scores: Scores) -> list[Markup]:
    """Recall over N, and precision over recall, of one or both rankings."""
    return [one for one in (_recall_curve(scores), _precision_curve(scores)) if one]


def _recall_curve(scores: Scores) -> Markup | None:
    lines, values = [], []
    for label, kind, measures in rankings(scores.pooled):
        known = [(n, one) for n in CUTS if (one := measures[f"recall@{n}"]).value is not None]
        points = np.array([(n, one.value) for n, one in known], np.float64).reshape(-1, 2)
        edges = [(one.low, one.high) for _, one in known]
        band = np.array(edges, np.float64).reshape(-1, 2)
        lines.append(Line(label, kind, points, band, dots=True))
        values += [*points[:, 1].tolist(), *band[:, 0].tolist()]
    most = max((int(line.points[-1, 0]) for line in lines if len(line.points)), default=0)
    if most < 2:
        return None
    ticks = tuple((float(n), str(n)) for n in CUTS if n <= most)
    x = Axis("answers looked at, N", 1.0, float(most), ticks, logarithmic=True)
    told = "; ".join(
        f"{line.label}: " + ", ".join(f"{100 * y:.1f} % at {n:.0f}" for n, y in line.points)
        for line in lines
    )
    return chart("Recall at N", told, lines, x, percent_axis("recall@N", values))


def _precision_curve(scores: Scores) -> Markup | None:
    lines, values = [], []
    for label, kind, name in _curve_names(scores):
        curve = scores.curves.get(name)
        if curve is None or not len(curve.recall):
            continue
        points = np.stack((curve.recall, curve.precision), axis=1)
        lines.append(Line(label, kind, points))
        values += points[:, 1].tolist()
    if not lines:
        return None
    ticks = tuple((n / 5, f"{20 * n} %") for n in range(6))
    told = "Precision of the first answers against recall, accepted by falling score."
    return chart("Precision and recall", told, lines, Axis("recall", 0.0, 1.0, ticks),
                 percent_axis("precision", values))  # fmt: skip


def _curve_names(scores: Scores) -> list[tuple[str, str, str]]:
    labels = [(label, kind) for label, kind, _ in rankings(scores.pooled)]
    return [(*one, name) for one, name in zip(labels, ("retrieved", "reranked"), strict=False)]
