"""A scored run on disk: ``scores.json`` has every measure, ``queries.csv`` has every query.

Each file is written completely or not at all, and the same run gives the same bytes.
``queries.csv`` can be sorted in a spreadsheet. It reads back to equal outcomes, so runs can be
compared without their photos or predictions.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from placerec.errors import BadTable, NotFound
from placerec.evaluation.scoring.metrics import RankingResult
from placerec.evaluation.scoring.outcomes import RANKINGS, Outcome, Scores
from placerec.files import write_text

SCORES, QUERIES = "scores.json", "queries.csv"
LABELS = ("search", "query", "place", "condition", "positives", "posed")
STAGE = "ms_"  # the prefix of a column of milliseconds
RESULT = RankingResult._fields
COLUMNS = (*LABELS, *(f"{name}_{part}" for name in RANKINGS for part in RESULT), "error")


@dataclass(frozen=True, slots=True)
class ScoredRun:
    """A run as ``read_run`` returns it; ``scores`` is the object of ``scores.json``."""

    name: str
    scores: Mapping[str, Any] = field(repr=False)
    outcomes: list[Outcome] = field(repr=False)

    @property
    def protocol(self) -> str:
        """The name of the protocol."""
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
    """Write ``scores.json``, with ``facts`` (method, machine), and ``queries.csv``."""
    content = {**scores.as_json(), "facts": dict(facts or {})}
    write_text(folder / SCORES, json.dumps(content, indent=2) + "\n")
    write_text(folder / QUERIES, as_table(outcomes))


def read_run(folder: Path) -> ScoredRun:
    """Read what ``write_run`` wrote; raise ``BadTable`` with the file and line that is wrong."""
    remedy = "give the output folder of placerec evaluate"
    for name in (SCORES, QUERIES):
        if not (folder / name).is_file():
            raise NotFound(folder, f"is no scored run ({name} is missing)", remedy)
    path = folder / SCORES
    try:
        scores = json.loads(path.read_bytes())
        for name in RANKINGS:
            {key: value["value"] for key, value in (scores["pooled"][name] or {}).items()}
        _ = scores["protocol"], scores["hash"]
    except json.JSONDecodeError as error:
        raise BadTable(path, error.lineno, f"not JSON ({error.msg})") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadTable(path, 1, f"not the scores of a run ({error})") from error
    return ScoredRun(folder.name, scores, read_outcomes(folder / QUERIES))


def as_table(outcomes: Sequence[Outcome]) -> str:
    """Return the text of ``queries.csv``: one row per outcome, ranks separated by spaces."""
    stages = sorted({stage for outcome in outcomes for stage in outcome.milliseconds})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")  # so a name with \r or \n is quoted
    writer.writerow([*COLUMNS, *(STAGE + stage for stage in stages)])
    for outcome in outcomes:
        labels = [getattr(outcome, name) for name in LABELS[:-2]]
        labels += ["" if outcome.positives is None else outcome.positives, int(outcome.posed)]
        results = [*_cells(outcome.retrieved), *_cells(outcome.reranked)]
        times = [_text(outcome.milliseconds.get(stage)) for stage in stages]
        writer.writerow([*labels, *results, outcome.error, *times])
    return text.getvalue()


def read_outcomes(path: Path) -> list[Outcome]:
    """Return the outcomes in a ``queries.csv``."""
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        rows = csv.reader(stream, strict=True)
        outcomes = []
        try:
            header = next(rows, [])
            stages = header[len(COLUMNS) :]
            if tuple(header[: len(COLUMNS)]) != COLUMNS or any(
                not stage.startswith(STAGE) for stage in stages
            ):
                raise BadTable(path, 1, "not the header of a queries.csv")
            for row in rows:
                if len(row) != len(header):
                    why = f"{len(row)} values for {len(header)} columns"
                    raise BadTable(path, rows.line_num, why)
                outcomes.append(_outcome(row, [stage.removeprefix(STAGE) for stage in stages]))
        except csv.Error as error:
            raise BadTable(path, rows.line_num, f"not a CSV row ({error})") from error
        except ValueError as error:
            raise BadTable(path, rows.line_num, f"not an outcome ({error})") from error
    return outcomes


def _cells(result: RankingResult | None) -> list[str]:
    if result is None:
        return [""] * len(RESULT)
    answers, ranks, *numbers = result
    return [str(answers), " ".join(map(str, ranks)), *map(_text, numbers)]


def _text(value: float | None) -> str:
    return "" if value is None else repr(float(value))


def _outcome(row: Sequence[str], stages: Sequence[str]) -> Outcome:
    cells = iter(row)
    search, query, place, condition = (next(cells) for _ in range(4))
    count, posed = next(cells), next(cells)
    positives = int(count) if count else None
    if (positives or 0) < 0 or posed not in ("0", "1"):
        raise ValueError(f"positives {positives}, posed {posed}")
    retrieved, reranked = _result(cells), _result(cells)
    if retrieved is None:
        raise ValueError("retrieved_answers is empty")
    error = next(cells)
    times = {stage: float(cell) for stage, cell in zip(stages, cells, strict=True) if cell}
    return Outcome(
        search, query, place, condition, positives, posed == "1", retrieved, reranked, times, error
    )


def _result(cells: Iterator[str]) -> RankingResult | None:
    answers, ranks, *numbers = (next(cells) for _ in RESULT)
    if not answers:
        return None
    positions = [int(rank) for rank in ranks.split()]
    if positions != sorted(set(positions)) or min(positions, default=1) < 1:
        raise ValueError(f"ranks {ranks} do not ascend from 1")
    if positions and positions[-1] > int(answers):
        raise ValueError(f"rank {positions[-1]} of {answers} answers")
    values = (float(cell) if cell else None for cell in numbers)
    return RankingResult(int(answers), tuple(positions), *values)
