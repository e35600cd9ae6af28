"""One self-contained page: how good, how sure, how fast, how large, by which protocol; then why.

Nothing on it is fetched, nothing runs: a policy in its head forbids both, whatever a photo name
may smuggle in. The same run gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from placerec.evaluation.dataset import Dataset
from placerec.evaluation.report.cases import Matched, Predictions, pictures
from placerec.evaluation.report.curves import curves
from placerec.evaluation.report.map import search_map
from placerec.evaluation.report.markup import Markup, element, joined
from placerec.evaluation.report.tables import (
    UNKNOWN,
    facts_table,
    further_table,
    groups_table,
    interval,
    measures_table,
    milliseconds,
    percent,
    rankings,
    size,
    stages,
)
from placerec.evaluation.scoring.outcomes import HIDDEN, Group, Outcome, Scores
from placerec.files import write_text

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
MOST_ERRORS = 20  # unanswered queries that are listed
READING = (
    "recall@N: share of the queries with a positive that have one among the first N answers; "
    "recall_of_all@N counts a query without a positive as a miss, as the published program does. "
    "precision@N: share of right answers among the first N. positives_found@N: share of a query's "
    "positives among the first N. mAP@N: mean average precision of the first N. The "
    "precision-recall curve accepts first answers by falling score. Intervals are 95 % bootstrap "
    "intervals; queries of one place are drawn together."
)


def write_report(
    path: Path,
    dataset: Dataset,
    outcomes: Sequence[Outcome],
    scores: Scores,
    facts: Mapping[str, object],
    predictions: Predictions,
    matched: Matched | None = None,
) -> None:
    """Write the page of a run to ``path``: one HTML file, wholly or not at all.

    All ``facts`` are shown; ``method`` (a name, or a mapping with a ``name``), ``bytes_per_photo``,
    ``photos`` and ``notes`` (lines) are also used above. ``matched(search, query, database photo)``
    gives the points (M, 4) that are drawn as lines, as fractions: x and y in the query, then in the
    database photo. A photo that cannot be read becomes a grey box with the reason. Raises
    ``NoRoom``.
    """
    sections = [
        _head(dataset, scores, facts),
        _section("Measures", _measures(scores, facts)),
        _section("Searches", scores.searches and groups_table("Search", scores.searches, scores)),
        _section("Conditions",
                 scores.conditions and groups_table("Condition", scores.conditions, scores)),
        _section("Map", _maps(dataset, outcomes, predictions)),
        _section("Pictures", pictures(dataset, outcomes, predictions, matched)),
        _section("Unanswered queries", _unanswered(outcomes)),
        _section("About this run", facts_table(_all_facts(dataset, facts))),
        element("footer", element("p", READING, class_="note")),
    ]  # fmt: skip
    page = _page(f"{_method(facts)} on {dataset.name}", sections)
    write_text(path, page)


def _page(title: str, sections: object) -> str:
    style = Markup(files(__package__).joinpath("page.css").read_text("utf-8"))
    head = element(
        "head", element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title), element("style", style),
    )  # fmt: skip
    body = element("body", element("main", sections))
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _section(title: str, content: object) -> Markup | None:
    """A section, or nothing without content."""
    if not joined(content or None):
        return None
    return element("section", element("h2", title), content)


def _all_facts(dataset: Dataset, facts: Mapping[str, object]) -> dict[str, object]:
    """The facts of the run and, should they not tell it, of its protocol."""
    rule = dataset.protocol
    protocol = {"name": rule.name, "rule": rule.rule, "hash": dataset.hash}
    return {"dataset": dataset.name, "protocol": protocol} | dict(facts)


def _method(facts: Mapping[str, object]) -> str:
    method = facts.get("method", "unnamed method")
    return str(method.get("name", method)) if isinstance(method, Mapping) else str(method)


def _head(dataset: Dataset, scores: Scores, facts: Mapping[str, object]) -> Markup:
    """Title, protocol and four figures: the first screen."""
    pooled, rule = scores.pooled, dataset.protocol
    _, _, final = rankings(pooled)[-1]
    first, times = final["recall@1"], stages(pooled)
    sure = f"95 % interval {interval(first)}" if interval(first) else first.doubt
    before = f"global ranking alone {percent(pooled.retrieved['recall@1'].value)} %"
    others = " · ".join(f"recall@{n} {percent(final[f'recall@{n}'].value)}" for n in (5, 10))
    photos = facts.get("photos", sum(len(search.database) for search in dataset.searches))
    tiles = (
        ("Recall@1", UNKNOWN if first.value is None else f"{percent(first.value)} %",
         [sure, before if pooled.reranked is not None else "", others]),
        ("Time of a query", milliseconds(sum(times.values())) if times else UNKNOWN,
         [f"{stage} {milliseconds(value)}" for stage, value in times.items()]),
        ("Kept of a photo", size(facts.get("bytes_per_photo")), [f"{photos} database photos"]),
        ("Queries", str(pooled.queries),
         [_with_positive(pooled), f"{pooled.unanswered} unanswered"]),
    )  # fmt: skip
    shown = [
        element("div", element("dt", label), element("dd", figure, class_="figure"),
                [element("dd", note) for note in notes if note], class_="tile")
        for label, figure, notes in tiles
    ]  # fmt: skip
    protocol = (element("strong", rule.name), ": ", rule.rule, " ",
                element("code", dataset.hash[:12]))  # fmt: skip
    return element(
        "header", element("h1", element("bdi", _method(facts)), " on ",
                          element("bdi", dataset.name)),
        element("p", protocol, class_="soft"),
        [element("p", note) for note in _notes(facts)], element("dl", shown, class_="tiles"),
    )  # fmt: skip


def _with_positive(group: Group) -> str:
    if group.without_positive is None:
        return HIDDEN
    return (
        f"{group.without_positive} without a positive"
        if group.without_positive
        else ("all with a positive")
    )


def _notes(facts: Mapping[str, object]) -> list[str]:
    """What a reader must know first, such as that weights are seeded."""
    notes = facts.get("notes")
    return [str(note) for note in notes] if isinstance(notes, list) else []


def _measures(scores: Scores, facts: Mapping[str, object]) -> Markup:
    """The table beside its curves, where there is room."""
    more = element("details", element("summary", "All other measures"),
                   further_table(scores.pooled))  # fmt: skip
    table = measures_table(scores.pooled, facts.get("bytes_per_photo"))
    return element("div", element("div", table, more), element("div", curves(scores)),
                   class_="pair")  # fmt: skip


def _maps(dataset: Dataset, outcomes: Sequence[Outcome], predictions: Predictions) -> Markup | None:
    """One map a search that has positions; several stand side by side."""
    count = len(dataset.searches)
    maps = []
    for search in dataset.searches:
        found = [one for one in outcomes if one.search == search.name]
        drawn = search_map(search, found, predictions, count)
        if drawn is not None:
            heading = element("h3", element("bdi", search.name)) if count > 1 else None
            maps.append(element("div", heading, drawn))
    return element("div", maps, class_="pair" if len(maps) > 1 else None) if maps else None


def _unanswered(outcomes: Sequence[Outcome]) -> list[Markup]:
    failed = [one for one in outcomes if not one.final.answers]
    if not failed:
        return []
    lines = [
        element("tr", element("td", element("bdi", one.query)),
                element("td", element("bdi", one.error or "an empty list")))
        for one in failed[:MOST_ERRORS]
    ]  # fmt: skip
    note = f"{len(failed)} of {len(outcomes)}; each counts as not found."
    if len(failed) > len(lines):
        note += f" The first {len(lines)}:"
    return [element("p", note, class_="note"),
            element("table", element("tbody", lines), class_="facts")]  # fmt: skip
