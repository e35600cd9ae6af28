"""The folder of a run: ``scores.json``, ``queries.csv`` and ``report.html`` beside the answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path

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
from placerec.runtime import DEFAULT_RUNTIME, Runtime

REPORT, SUBMISSION = "report.html", "submission.txt"


def write_run_folder(
    out: Path, run: Run, method: Method | None = None, runtime: Runtime = DEFAULT_RUNTIME
) -> None:
    """Write the results of a scored run: JSON and CSV for programs, HTML for people.

    With the ``method`` the pictures of the report show the matched points. If only the owner of the
    data set has the ground truth, ``submission.txt`` is written last: an error because its form
    cannot express a name loses nothing else.
    """
    write_run(out, run.scores, run.outcomes, run.facts)
    _write_report(out, run, method, runtime)
    rule, answers = run.dataset.protocol, run.predictions.predictions
    if rule.hidden and rule.poses:
        export_predictions("visuallocalization", run.dataset, answers, out / SUBMISSION)
    elif rule.hidden:
        export_predictions(
            "msls", run.dataset, _all_answered(run.dataset, answers), out / SUBMISSION
        )


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
                verifier = method.verifier(searches[name], Workplace(work, runtime))
                verifiers[name] = verifier and stack.enter_context(closing(verifier))
            verifier = verifiers[name]
            if verifier is None:
                return None
            return matched(run, verifier, method.candidates, searches[name], query, database)

        write_report(
            out / REPORT, run.dataset, run.outcomes, run.scores, run.facts,
            run.predictions.predictions, points,
        )  # fmt: skip
