"""A run's folder: ``scores.json``, ``queries.csv`` and ``report.html`` beside the predictions."""

from __future__ import annotations

from pathlib import Path

from placerec.baselines.contract import Progress
from placerec.evaluation.engines import Verifier
from placerec.evaluation.evaluate import WORK, Run, matched
from placerec.evaluation.exchange import export_predictions
from placerec.evaluation.methods import Method, Workplace
from placerec.evaluation.report import write_report
from placerec.evaluation.scoring.files import write_run
from placerec.index.describe import no_progress
from placerec.records import Array

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
    truth there is also ``submission.txt``, to be handed in.
    """
    write_run(out, run.scores, run.outcomes, run.facts)
    rule = run.dataset.protocol
    if rule.hidden:
        form = "visuallocalization" if rule.poses else "msls"
        answers = run.predictions.predictions
        export_predictions(form, run.dataset, answers, out / SUBMISSION)
    searches = {search.name: search for search in run.dataset.searches}

    opened: dict[str, Verifier] = {}

    def points(name: str, query: str, database: str) -> Array | None:
        if method is None:
            return None
        if name not in opened:
            number = list(searches).index(name)
            where = Workplace(out / WORK / str(number), threads, device, progress)
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
