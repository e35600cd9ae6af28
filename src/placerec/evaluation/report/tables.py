"""Numbers as tables: measures with their intervals, groups of queries, facts of the run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from placerec.evaluation.report.markup import Markup, element
from placerec.evaluation.scoring.intervals import Estimate
from placerec.evaluation.scoring.metrics import AUC, CUTS, FULL_PRECISION, POSE_WITHIN
from placerec.evaluation.scoring.outcomes import Group, Scores

UNKNOWN = "–"
DEEPEST = 2  # names of a fact inside facts; what lies deeper shares one line
POSES = tuple(f"within_{metres:g}m_{degrees:g}deg" for metres, degrees in POSE_WITHIN)
RECALLS = tuple(f"recall@{n}" for n in CUTS)
FAMILIES = ("recall_of_all", "precision", "positives_found", "mAP")
LABELS = {
    AUC: "precision-recall, area",
    FULL_PRECISION: "recall at 100 % precision",
    **{
        name: f"within {metres:g} m and {degrees:g}°"
        for name, (metres, degrees) in zip(POSES, POSE_WITHIN, strict=True)
    },
}
RERANK = "rerank"
GLOBAL, FINAL = "Global ranking", "Re-ranked"


def percent(value: float | None) -> str:
    """A share as a percentage with one decimal, ``93.5``."""
    return UNKNOWN if value is None else f"{100 * value:.1f}"


def interval(one: Estimate) -> str:
    """``90.1–96.2``, or nothing where there is none."""
    if one.low is None or one.high is None:
        return ""
    return f"{percent(one.low)}–{percent(one.high)}"


def rankings(group: Group) -> list[tuple[str, str, dict[str, Estimate]]]:
    """Label, class and measures of the global ranking and, where there is one, the final one."""
    if group.reranked is None:
        return [(GLOBAL, "final", group.retrieved)]
    return [(GLOBAL, "global", group.retrieved), (FINAL, "final", group.reranked)]


def measures_table(group: Group, bytes_per_photo: object) -> Markup:
    """Recall, curve and pose measures, then what they cost: the table of the page."""
    notes = _Notes()
    columns = rankings(group)
    head = [element("th", element("span", class_=f"key {kind}"), label, scope="col")
            for label, kind, _ in columns]  # fmt: skip
    names = [name for name in (*RECALLS, *POSES, AUC, FULL_PRECISION) if name in group.retrieved]
    body = [_measure(name, columns, notes) for name in names]
    body += _costs(group, len(columns), bytes_per_photo)
    caption = element("caption", "Percent, with 95 % intervals; milliseconds are means a query.")
    return _table(caption, [element("th", "Measure", scope="col"), *head], body, notes)


def further_table(group: Group) -> Markup:
    """All other measures."""
    notes = _Notes()
    columns = rankings(group)
    names = [f"{family}@{n}" for family in FAMILIES for n in CUTS]
    body = [_measure(name, columns, notes) for name in names if name in group.retrieved]
    head = [element("th", label, scope="col") for label, _, _ in columns]
    return _table(None, [element("th", "Measure", scope="col"), *head], body, notes)


def groups_table(what: str, groups: Mapping[str, Group], scores: Scores) -> Markup:
    """One line a search or condition, and all queries last."""
    notes = _Notes()
    pooled = scores.pooled
    shown = POSES if POSES[0] in pooled.retrieved else RECALLS[:3]
    columns = [(name, number) for name in shown for number in range(len(rankings(pooled)))]
    head = [element("th", what, scope="col"), element("th", "Queries", scope="col")]
    for name, number in columns:
        label, kind, _ = rankings(pooled)[number]
        key = element("span", class_=f"key {kind}")
        told = element("span", key, LABELS.get(name, name), class_="whole")
        head.append(element("th", told, element("br"), label, scope="col"))
    body = []
    for label, group in [*groups.items(), ("All", pooled)]:
        cells = [_cell(rankings(group)[number][2][name], notes) for name, number in columns]
        body.append(element("tr", element("th", element("bdi", label or UNKNOWN), scope="row"),
                            element("td", group.queries), cells))  # fmt: skip
    return _table(None, head, body, notes)


def facts_table(facts: Mapping[str, object]) -> Markup:
    """Every fact of the run, one line each; those inside others carry both names."""
    lines = [
        element("tr", element("th", name, scope="row"), element("td", element("bdi", value)))
        for name, value in _flat(facts)
    ]
    return element("table", element("tbody", lines), class_="facts")


def milliseconds(value: float) -> str:
    """``0.4 ms``, ``152 ms``, ``2.3 s``."""
    if value >= 10_000:
        return f"{value / 1000:.1f} s"
    return f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"


def stages(group: Group) -> dict[str, float]:
    """Mean milliseconds by stage, in the order in which a query passes them."""
    order = ("encode", "search", RERANK)
    known = group.milliseconds
    return {stage: known[stage] for stage in (*order, *sorted(known)) if stage in known}


def size(value: object) -> str:
    """Bytes as ``548 bytes``, ``31.6 kB``, ``46.3 MB`` (a kB is 1000 bytes)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return UNKNOWN
    if value < 1000:
        return f"{value:.0f} bytes"
    return f"{value / 1e3:.1f} kB" if value < 1e6 else f"{value / 1e6:.1f} MB"


class _Notes:
    """Doubts, each told once below the table and marked by a letter."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def mark(self, doubt: str) -> Markup | None:
        if not doubt:
            return None
        if doubt not in self.told:
            self.told.append(doubt)
        return element("sup", chr(ord("a") + self.told.index(doubt) % 26))

    def shown(self) -> Markup | None:
        if not self.told:
            return None
        return element("p", [
            element("span", self.mark(doubt), f" {doubt}. ") for doubt in self.told
        ], class_="note")  # fmt: skip


def _table(caption: object, head: object, body: object, notes: _Notes) -> Markup:
    table = element("table", caption, element("thead", element("tr", head)), element("tbody", body))
    return element("div", element("div", table, class_="scroll"), notes.shown())


def _measure(
    name: str, columns: Sequence[tuple[str, str, dict[str, Estimate]]], notes: _Notes
) -> Markup:
    label = LABELS.get(name, name)
    cells = [_cell(measures[name], notes) for _, _, measures in columns]
    return element("tr", element("th", label, scope="row"), cells)


def _cell(one: Estimate, notes: _Notes) -> Markup:
    return _value(percent(one.value), interval(one), notes.mark(one.doubt))


def _value(shown: str, *beside: object) -> Markup:
    """A cell; what stands beside the value has a width of its own, so values are aligned."""
    return element("td", shown, element("small", beside))


def _costs(group: Group, columns: int, bytes_per_photo: object) -> Iterator[Markup]:
    """Time by stage under each ranking that needs the stage, its sum, and the bytes of the run."""
    times = stages(group)
    alone = {stage: value for stage, value in times.items() if stage != RERANK}
    parts = (alone, times)[-columns:]  # of the global ranking, of the whole
    for stage in times:
        cells = [milliseconds(part[stage]) if stage in part else UNKNOWN for part in parts]
        yield _line(f"Time to {stage}", cells)
    if times:
        yield _line("Time of a query", [milliseconds(sum(part.values())) for part in parts])
    yield _line("Kept of a photo", ["" for _ in parts[1:]] + [size(bytes_per_photo)])


def _line(label: str, cells: Sequence[str]) -> Markup:
    return element("tr", element("th", label, scope="row"), [_value(one) for one in cells])


def _flat(facts: Mapping[str, object], names: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Names and values; what is the same for all entries of a mapping is told once."""
    for key, value in facts.items():
        here = (*names, str(key).replace("_", " "))
        if not isinstance(value, Mapping) or not value or len(here) > DEEPEST:
            yield ", ".join(here), _words(value)
            continue
        entries = list(value.values())
        one = entries[0]
        if isinstance(one, Mapping) and all(other == one for other in entries):
            value = one  # of each search, say
        yield from _flat(value, here)


def _words(value: object) -> str:
    if isinstance(value, Mapping):
        return " · ".join(f"{key} {_words(inner)}" for key, inner in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(_words, value)) or "none"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "none" if value is None or value == "" else str(value)
