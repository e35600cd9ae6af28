"""A run's folder: ``scores.json``, ``queries.csv`` and ``report.html`` beside the predictions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from placerec.baselines.contract import Progress
from placerec.evaluation.dataset import Dataset
from placerec.evaluation.exchange import Key, export_predictions
from placerec.evaluation.methods import Method, Workplace
from placerec.evaluation.predictions import Prediction
from placerec.evaluation.report import write_report
from placerec.evaluation.run import Run
from placerec.evaluation.runner import SHORTLIST, matched, work_of
from placerec.evaluation.scoring.score_files import write_run
from placerec.evaluation.searchers import Verifier
from placerec.records import Array
from placerec.runtime import no_progress

REPORT, SUBMISSION = "report.html", "submission.txt"


def write_results(
    out: Path,
    run: Run,
    method: Method | None = None,
    threads: int | None = None,
    device: str = "cpu",
    progress: Progress = no_progress,
) -> None:
    """Write what a scored run is read by: machines (JSON, CSV) and people (HTML).

    With its ``method`` the report's pictures show the matched points. Where the owner keeps the
    truth there is also ``submission.txt``, to be handed in. It comes last: names that its form
    cannot carry are an error that costs nothing else.
    """
    write_run(out, run.scores, run.outcomes, run.facts)
    _report(out, run, method, threads, device, progress)
    rule = run.dataset.protocol
    if rule.hidden and rule.poses:
        answers = run.predictions.predictions
        export_predictions("visuallocalization", run.dataset, answers, out / SUBMISSION)
    elif rule.hidden:
        answers = _all_answered(run.dataset, run.predictions.predictions)
        export_predictions("msls", run.dataset, answers, out / SUBMISSION)


def _all_answered(dataset: Dataset, predictions: Mapping[Key, Prediction]) -> dict[Key, Prediction]:
    """The evaluator wants a line for each query: the database's first photos where none was found.

    They are no answer, but photos that it knows.
    """
    answered = dict(predictions)
    for search in dataset.searches:
        first = tuple((name, math.nan) for name in search.own_names[:SHORTLIST])
        for query in search.queries.names:
            one = answered.get((search.name, query))
            if one is None or not (one.reranked or one.retrieved):
                answered[search.name, query] = Prediction(search.name, query, first)
    return answered


def _report(
    out: Path, run: Run, method: Method | None, threads: int | None, device: str,
    progress: Progress,
) -> None:  # fmt: skip
    searches = {search.name: search for search in run.dataset.searches}

    opened: dict[str, Verifier] = {}

    def points(name: str, query: str, database: str) -> Array | None:
        if method is None:
            return None
        if name not in opened:
            work = work_of(out, run.predictions, list(searches).index(name))
            where = Workplace(work, threads, device, progress)
            verifier = method.verifier(searches[name], where)
            if verifier is None:
                return None
            opened[name] = verifier
        return matched(run, opened[name], method.candidates, searches[name], query, database)

    try:
        write_report(
            out / REPORT, run.dataset, run.outcomes, run.scores, run.facts,
            run.predictions.predictions, points,
        )  # fmt: skip
    finally:
        for one in opened.values():
            one.close()
