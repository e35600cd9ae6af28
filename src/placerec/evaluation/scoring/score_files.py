"""A scored run on disk: ``scores.json`` with every measure, ``queries.csv`` with every query.

Both are written as a whole or not at all, and the same run gives the same bytes. ``queries.csv`` is
for people too (sort it in a spreadsheet) and reads back to equal outcomes, so that runs can be
compared without their photos or predictions.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from placerec.errors import BadTable, NotFound
from placerec.evaluation.scoring.metrics import Found
from placerec.evaluation.scoring.outcomes import Outcome, Scores
from placerec.files import write_text

SCORES, QUERIES = "scores.json", "queries.csv"
LABELS = ("search", "query", "place", "condition", "positives", "posed")
RANKINGS = ("retrieved", "reranked")
STAGE = "ms_"  # a column of milliseconds begins with this
COLUMNS = (*LABELS, *(f"{name}_{part}" for name in RANKINGS for part in Found._fields), "error")


@dataclass(frozen=True, slots=True)
class ScoredRun:
    """What ``read_run`` finds in a folder; ``scores`` is the object of ``scores.json``."""

    name: str
    scores: Mapping[str, Any] = field(repr=False)
    outcomes: list[Outcome] = field(repr=False)

    @property
    def protocol(self) -> str:
        """The protocol's name."""
        return str(self.scores["protocol"])

    @property
    def hash(self) -> str:
        """The hash of protocol, photos and positives."""
        return str(self.scores["hash"])


def write_run(
    folder: Path,
    scores: Scores,
    outcomes: Sequence[Outcome],
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Write ``scores.json`` and ``queries.csv``; ``facts`` (method, machine) go into the first."""
    told = {**scores.as_json(), "facts": dict(facts or {})}
    write_text(folder / SCORES, json.dumps(told, indent=2) + "\n")
    write_text(folder / QUERIES, as_table(outcomes))


def read_run(folder: Path) -> ScoredRun:
    """Read what ``write_run`` wrote; ``BadTable`` names the file and line that do not fit."""
    remedy = "give the --out folder of placerec evaluate"
    for name in (SCORES, QUERIES):
        if not (folder / name).is_file():
            raise NotFound(folder, f"no scored run ({name} is not there)", remedy)
    path = folder / SCORES
    try:
        scores = json.loads(path.read_bytes())
        for name in RANKINGS:
            {key: one["value"] for key, one in (scores["pooled"][name] or {}).items()}
        _ = scores["protocol"], scores["hash"]
    except json.JSONDecodeError as error:
        raise BadTable(path, error.lineno, f"not JSON ({error.msg})") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadTable(path, 1, f"not the scores of a run ({error})") from error
    return ScoredRun(folder.name, scores, read_outcomes(folder / QUERIES))


def as_table(outcomes: Sequence[Outcome]) -> str:
    """The text of ``queries.csv``: one row an outcome, ranks separated by blanks."""
    stages = sorted({stage for one in outcomes for stage in one.milliseconds})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")  # so that either, in a name, is quoted
    writer.writerow([*COLUMNS, *(STAGE + stage for stage in stages)])
    for one in outcomes:
        positives = "" if one.positives is None else one.positives
        labels = [one.search, one.query, one.place, one.condition, positives, int(one.posed)]
        times = [_text(one.milliseconds.get(stage)) for stage in stages]
        writer.writerow([*labels, *_cells(one.retrieved), *_cells(one.reranked), one.error, *times])
    return text.getvalue()


def read_outcomes(path: Path) -> list[Outcome]:
    """The outcomes of a ``queries.csv``."""
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        rows = csv.reader(stream, strict=True)
        found = []
        try:
            header = next(rows, [])
            stages = header[len(COLUMNS) :]
            if tuple(header[: len(COLUMNS)]) != COLUMNS or any(
                not stage.startswith(STAGE) for stage in stages
            ):
                raise BadTable(path, 1, "not the header of a queries.csv that placerec wrote")
            for row in rows:
                if len(row) != len(header):
                    why = f"{len(row)} values for {len(header)} columns"
                    raise BadTable(path, rows.line_num, why)
                found.append(_outcome(row, [stage.removeprefix(STAGE) for stage in stages]))
        except csv.Error as error:
            raise BadTable(path, rows.line_num, f"not a CSV row ({error})") from error
        except ValueError as error:
            raise BadTable(path, rows.line_num, f"not an outcome ({error})") from error
    return found


def _cells(found: Found | None) -> list[str]:
    if found is None:
        return [""] * len(Found._fields)
    ranks = " ".join(map(str, found.ranks))
    known = (found.confidence, found.metres, found.degrees)
    return [str(found.answers), ranks, *map(_text, known)]


def _text(value: float | None) -> str:
    return "" if value is None else repr(float(value))


def _outcome(row: Sequence[str], stages: Sequence[str]) -> Outcome:
    cells = iter(row)
    search, query, place, condition = (next(cells) for _ in range(4))
    count, posed = next(cells), next(cells)
    positives = int(count) if count else None
    if (positives or 0) < 0 or posed not in ("0", "1"):
        raise ValueError(f"positives {positives}, posed {posed}")
    retrieved, reranked = _found(cells), _found(cells)
    if retrieved is None:
        raise ValueError("no number of answers")
    error = next(cells)
    times = {stage: float(cell) for stage, cell in zip(stages, cells, strict=True) if cell}
    return Outcome(
        search, query, place, condition, positives, posed == "1", retrieved, reranked, times, error
    )


def _found(cells: Any) -> Found | None:
    answers, ranks, *known = (next(cells) for _ in Found._fields)
    if not answers:
        return None
    places = tuple(map(int, ranks.split()))
    if list(places) != sorted(set(places)) or (places and not 1 <= places[0] <= places[-1]):
        raise ValueError(f"ranks {ranks} do not ascend from 1")
    if places and places[-1] > int(answers):
        raise ValueError(f"rank {places[-1]} of {answers} answers")
    return Found(int(answers), places, *(float(cell) if cell else None for cell in known))
