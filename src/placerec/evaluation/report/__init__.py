"""The HTML report of a run: one self-contained file to read, print or archive.

The page shows how good, how certain, how fast, how large, by which protocol; then the reasons. It
loads nothing and runs nothing: a policy in its head forbids both, whatever a photo name contains.
The same run gives the same bytes. ``templates/`` holds the layout; ``rendering`` fills it in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from placerec.evaluation.dataset import Dataset
from placerec.evaluation.report.cases import Matched, Predictions, case_groups
from placerec.evaluation.report.charts import charts
from placerec.evaluation.report.how_sure import how_sure
from placerec.evaluation.report.position_map import search_map
from placerec.evaluation.report.rendering import render
from placerec.evaluation.report.tables import (
    FURTHER,
    MAIN,
    fact_rows,
    groups_table,
    measures_table,
    stage_times,
)
from placerec.evaluation.scoring.outcomes import Outcome
from placerec.evaluation.scoring.scores import HIDDEN, Scores
from placerec.files import write_text


def write_report(
    path: Path,
    dataset: Dataset,
    outcomes: Sequence[Outcome],
    scores: Scores,
    facts: Mapping[str, object],
    predictions: Predictions,
    matched: Matched | None = None,
    foreign: Predictions | None = None,
) -> None:
    """Write the page of a run to ``path``: one HTML file, complete or not at all.

    The page shows all ``facts``. It also uses ``method`` (a name, or a mapping with a ``name``),
    ``bytes_per_photo``, ``photos`` and ``notes`` (lines) in its head. ``matched(search, query,
    database photo)`` returns the points (M, 4) that are drawn as lines, as fractions: x and y in
    the query, then in the database photo. ``foreign`` are the answers to foreign
    photos. A photo that cannot be read becomes a grey box with the reason. Raises ``NoRoom`` if the
    file cannot be written.
    """
    rule = dataset.protocol
    protocol = {"name": rule.name, "rule": rule.rule, "hash": dataset.hash}
    facts = {"dataset": dataset.name, "protocol": protocol, **facts}
    pooled, notes = scores.pooled, facts.get("notes")
    method = facts.get("method", "unnamed method")
    groups = ("Searches", "Search", scores.searches), ("Conditions", "Condition", scores.conditions)
    page = render(
        "page.html",
        method=method.get("name", method) if isinstance(method, Mapping) else method,
        dataset=dataset,
        notes=notes if isinstance(notes, list) else [],
        pooled=pooled,
        stages=stage_times(pooled),
        bytes_per_photo=facts.get("bytes_per_photo"),
        photos=facts.get("photos", sum(len(search.database) for search in dataset.searches)),
        hidden=HIDDEN,
        measures=measures_table(pooled, MAIN),
        further=measures_table(pooled, FURTHER),
        charts=charts(scores),
        sure=how_sure(scores, foreign or {}),
        groups=[
            (title, column, groups_table(parts, pooled)) for title, column, parts in groups if parts
        ],
        maps=[
            (search.name, search_map(search, outcomes, predictions, len(dataset.searches)))
            for search in dataset.searches
        ],
        case_groups=case_groups(dataset, outcomes, predictions, matched),
        unanswered=[outcome for outcome in outcomes if not outcome.final.answers],
        facts=list(fact_rows(facts)),
    )
    write_text(path, page)
