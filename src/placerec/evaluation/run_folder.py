"""The folder of a run: ``scores.json``, ``queries.csv`` and ``report.html`` beside the answers.

Each file is written completely or not at all, and the same run gives the same bytes.
``queries.csv`` can be sorted in a spreadsheet. It reads back to equal outcomes, so runs can be
compared without their photos or predictions.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from placerec.errors import BadTable, NotFound
from placerec.evaluation.dataset import Dataset
from placerec.evaluation.exchange import Key, export_predictions
from placerec.evaluation.methods import Method
from placerec.evaluation.predictions import Prediction
from placerec.evaluation.report import write_report
from placerec.evaluation.run import Run
from placerec.evaluation.runner import SHORTLIST, matched, work_of
from placerec.evaluation.scoring.metrics import RankingResult
from placerec.evaluation.scoring.outcomes import RANKINGS, Outcome
from placerec.evaluation.scoring.scores import Scores
from placerec.evaluation.searchers import Verifier
from placerec.files import write_text
from placerec.records import Array
from placerec.runtime import DEFAULT_RUNTIME, Runtime

SCORES, QUERIES = "scores.json", "queries.csv"
REPORT, SUBMISSION = "report.html", "submission.txt"
LABELS = ("search", "query", "place", "condition")
STAGE = "ms_"  # the prefix of a column of milliseconds
RESULT = RankingResult._fields
RESULTS = tuple(f"{name}_{part}" for name in RANKINGS for part in RESULT)
JUDGEMENT = ("confidence", "in_map")
COLUMNS = (*LABELS, "positives", "posed", *RESULTS, *JUDGEMENT, "error")


@dataclass(frozen=True, slots=True)
class ScoredRun:
    """A run as ``read_run`` returns it.

    ``scores`` is the object of ``scores.json``. ``hash`` is that of protocol, photos and positives.
    """

    name: str
    protocol: str
    hash: str
    scores: Mapping[str, Any] = field(repr=False)
    outcomes: list[Outcome] = field(repr=False)


def write_run_folder(
    out: str | Path, run: Run, method: Method | None = None, runtime: Runtime = DEFAULT_RUNTIME
) -> None:
    """Write the results of a scored run: JSON and CSV for programs, HTML for people.

    With the ``method`` the pictures of the report show the matched points. If only the owner of the
    data set has the ground truth, ``submission.txt`` is written last: an error because its form
    cannot express a name loses nothing else.
    """
    out = Path(out)
    write_scores(out, run.scores, run.outcomes, run.facts)
    _write_report(out, run, method, runtime)
    rule, answers = run.dataset.protocol, run.predictions.predictions
    if rule.hidden and not rule.poses:
        answers = _all_answered(run.dataset, answers)
    if rule.hidden:
        form = "visuallocalization" if rule.poses else "msls"
        export_predictions(form, run.dataset, answers, out / SUBMISSION)


def write_scores(
    folder: str | Path,
    scores: Scores,
    outcomes: Sequence[Outcome],
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Write ``scores.json``, with ``facts`` (method, machine), and ``queries.csv``."""
    folder, content = Path(folder), {**scores.as_json(), "facts": dict(facts or {})}
    write_text(folder / SCORES, json.dumps(content, indent=2) + "\n")
    write_text(folder / QUERIES, as_table(outcomes))


def read_run(folder: str | Path) -> ScoredRun:
    """Read what ``write_scores`` wrote; raise ``BadTable`` with the file and line that is wrong."""
    folder, remedy = Path(folder), "give the output folder of placerec evaluate"
    for name in (SCORES, QUERIES):
        if not (folder / name).is_file():
            raise NotFound(folder, f"is no scored run ({name} is missing)", remedy)
    path = folder / SCORES
    try:
        scores = json.loads(path.read_bytes())
        for name in (*RANKINGS, "confidence"):
            {key: value["value"] for key, value in (scores["pooled"][name] or {}).items()}
        labels = str(scores["protocol"]), str(scores["hash"])
    except json.JSONDecodeError as error:
        raise BadTable(path, error.lineno, f"not JSON ({error.msg})") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadTable(path, 1, f"not the scores of a run of this version ({error})") from error
    return ScoredRun(folder.name, *labels, scores, read_outcomes(folder / QUERIES))


def as_table(outcomes: Sequence[Outcome]) -> str:
    """Return the text of ``queries.csv``: one row per outcome, ranks separated by spaces."""
    stages = sorted({stage for outcome in outcomes for stage in outcome.milliseconds})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")  # so a name with \r or \n is quoted
    writer.writerow([*COLUMNS, *(STAGE + stage for stage in stages)])
    for outcome in outcomes:  # ``csv`` writes None as an empty cell
        labels = [getattr(outcome, name) for name in LABELS]
        results = [*_cells(outcome.retrieved), *_cells(outcome.reranked)]
        times = [outcome.milliseconds.get(stage) for stage in stages]
        counts = [outcome.positives, int(outcome.posed)]
        in_map = None if outcome.in_map is None else int(outcome.in_map)
        judgement = [outcome.confidence, in_map]
        writer.writerow([*labels, *counts, *results, *judgement, outcome.error, *times])
    return text.getvalue()


def read_outcomes(path: str | Path) -> list[Outcome]:
    """Return the outcomes in a ``queries.csv``."""
    path = Path(path)
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        rows = csv.reader(stream, strict=True)
        outcomes = []
        try:
            header = next(rows, [])
            stages = [column.removeprefix(STAGE) for column in header[len(COLUMNS) :]]
            if header != [*COLUMNS, *(STAGE + stage for stage in stages)]:
                why = (
                    "not the columns of a queries.csv of this version; run placerec evaluate again"
                )
                raise BadTable(path, 1, why)
            for row in rows:
                if len(row) != len(header):
                    why = f"{len(row)} values for {len(header)} columns"
                    raise BadTable(path, rows.line_num, why)
                outcomes.append(_outcome(iter(row), stages))
        except (csv.Error, ValueError) as error:
            raise BadTable(path, rows.line_num, f"not an outcome ({error})") from error
    return outcomes


def _cells(result: RankingResult | None) -> list[Any]:
    if result is None:
        return [None] * len(RESULT)
    answers, ranks, *numbers = result
    return [answers, " ".join(map(str, ranks)), *numbers]


def _outcome(cells: Iterator[str], stages: Sequence[str]) -> Outcome:
    search, query, place, condition = (next(cells) for _ in LABELS)
    count, posed = next(cells), next(cells)
    positives = int(count) if count else None
    if (positives or 0) < 0 or posed not in ("0", "1"):
        raise ValueError(f"positives {positives}, posed {posed}")
    retrieved, reranked = _result(cells), _result(cells)
    if retrieved is None:
        raise ValueError("retrieved_answers is empty")
    confidence, in_map, error = next(cells), next(cells), next(cells)
    sure = float(confidence) if confidence else None
    if in_map not in ("", "0", "1") or not 0.0 <= (sure or 0.0) <= 1.0:
        raise ValueError(f"confidence {confidence}, in_map {in_map}")
    times = {stage: float(cell) for stage, cell in zip(stages, cells, strict=True) if cell}
    return Outcome(
        search, query, place, condition, positives, posed == "1", retrieved, reranked, times,
        error, sure, in_map == "1" if in_map else None,
    )  # fmt: skip


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


def _all_answered(dataset: Dataset, predictions: Mapping[Key, Prediction]) -> dict[Key, Prediction]:
    """Add the first photos of the database for each query without an answer.

    They are not an answer, but the evaluator requires a line with valid photos for each query.
    """
    answered = dict(predictions)
    for search in dataset.searches:
        first = tuple((name, math.nan) for name in search.own_names[:SHORTLIST])
        for query in search.queries.names:
            answer = answered.get((search.name, query))
            if answer is None or not (answer.reranked or answer.retrieved):
                answered[search.name, query] = Prediction(search.name, query, first)
    return answered


def _write_report(out: Path, run: Run, method: Method | None, runtime: Runtime) -> None:
    searches = {search.name: search for search in run.dataset.searches}
    verifiers: dict[str, Verifier | None] = {}
    with ExitStack() as stack:

        def points(name: str, query: str, database: str) -> Array | None:
            if method is None:
                return None
            if name not in verifiers:
                work = work_of(out, run.predictions, list(searches).index(name))
                verifier = method.verifier(searches[name], work, runtime)
                verifiers[name] = verifier and stack.enter_context(closing(verifier))
            verifier = verifiers[name]
            if verifier is None:
                return None
            return matched(run, verifier, method.candidates, searches[name], query, database)

        write_report(
            out / REPORT, run.dataset, run.outcomes, run.scores, run.facts,
            run.predictions.predictions, points, run.predictions.foreign,
        )  # fmt: skip
