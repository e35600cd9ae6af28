"""The data of the tables: measures with their intervals, groups of queries, facts of the run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from string import ascii_lowercase
from typing import NamedTuple

from placerec.evaluation.scoring.intervals import Estimate
from placerec.evaluation.scoring.metrics import AUC, CUTS, FULL_PRECISION, POSE_NAMES, POSE_WITHIN
from placerec.evaluation.scoring.scores import Group

MAX_DEPTH = 2  # names of a fact within facts; deeper values share one row
POSES = {
    name: f"within {m:g} m and {d:g}°" for name, (m, d) in zip(POSE_NAMES, POSE_WITHIN, strict=True)
}
RECALLS = tuple(f"recall@{n}" for n in CUTS)
MAIN = (*RECALLS, *POSES, AUC, FULL_PRECISION)
FURTHER = tuple(
    f"{family}@{n}" for family in ("recall_of_all", "precision", "positives_found", "mAP")
    for n in CUTS
)  # fmt: skip
LABELS = {AUC: "precision-recall, area", FULL_PRECISION: "recall at 100 % precision", **POSES}

Row = tuple[str, int | None, list[Estimate]]  # label, number of queries if shown, values


class Column(NamedTuple):
    """One ranking: its label, the CSS class of its colour, and its measures."""

    label: str
    kind: str
    measures: Mapping[str, Estimate]


def rankings(group: Group) -> list[Column]:
    """Return the global ranking and, if the method re-ranks, the final ranking."""
    if group.reranked is None:
        return [Column("Global ranking", "final", group.retrieved)]
    columns = ("Global ranking", "global", group.retrieved), ("Re-ranked", "final", group.reranked)
    return [Column(*column) for column in columns]


def measures_table(group: Group, names: Sequence[str]) -> dict[str, object]:
    """Return one row per measure of ``names`` that ``group`` has, one column per ranking."""
    columns = rankings(group)
    rows: list[Row] = [
        (LABELS.get(name, name), None, [column.measures[name] for column in columns])
        for name in names
        if name in group.retrieved
    ]
    return {"columns": columns, "rows": rows, "letters": letters(rows)}


def groups_table(groups: Mapping[str, Group], pooled: Group) -> dict[str, object]:
    """Return one row per search or condition, and one of all queries."""
    names = list(POSES if set(POSES) <= set(pooled.retrieved) else RECALLS[:3])
    columns = [(LABELS.get(name, name), column) for name in names for column in rankings(pooled)]
    rows: list[Row] = [
        (label, group.queries, [c.measures[name] for name in names for c in rankings(group)])
        for label, group in [*groups.items(), ("All", pooled)]
    ]
    return {"columns": columns, "rows": rows, "letters": letters(rows)}


def stage_times(group: Group) -> dict[str, float]:
    """Return the mean milliseconds per stage, in the order in which a query passes them."""
    order = ("encode", "search", "rerank", *sorted(group.milliseconds))
    return {stage: group.milliseconds[stage] for stage in order if stage in group.milliseconds}


def fact_rows(
    facts: Mapping[str, object], names: tuple[str, ...] = ()
) -> Iterator[tuple[str, object]]:
    """Yield name and value of every fact; a fact within facts carries both names.

    If all entries of a mapping are equal, they are one fact.
    """
    for key, value in facts.items():
        path = (*names, str(key).replace("_", " "))
        if not isinstance(value, Mapping) or not value or len(path) > MAX_DEPTH:
            yield ", ".join(path), value
            continue
        first, *rest = value.values()
        shared = isinstance(first, Mapping) and all(entry == first for entry in rest)
        yield from fact_rows(first if shared else value, path)


def letters(rows: Sequence[Row]) -> dict[str, str]:
    """Return the letter of each doubt; the table explains each letter once, below it."""
    doubts = dict.fromkeys(e.doubt for _, _, estimates in rows for e in estimates if e.doubt)
    return dict(zip(doubts, cycle(ascii_lowercase), strict=False))
