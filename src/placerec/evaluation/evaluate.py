"""Run a model over a data set: build the index of the database, ask every query, count.

The model is fitted on the database photos alone, as ``placerec index build`` would; queries are
only ever asked.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from placerec.errors import PhotoError
from placerec.evaluation.dataset import Dataset
from placerec.evaluation.metrics import RECALL_AT, recalls
from placerec.index.build import build_index
from placerec.index.describe import Progress, no_progress
from placerec.recognise.recognizer import PlaceRecognizer
from placerec.settings import Settings
from placerec.trunks import Trunk


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What ``placerec evaluate`` found; recalls are fractions, ``reranked`` None without patches.

    ``ms_per_query`` is the mean wall-clock time of one query, from file to answer.
    """

    queries: int
    queries_with_positive: int
    global_recalls: dict[str, float]
    reranked_recalls: dict[str, float] | None
    scorer: str | None
    model: str
    ms_per_query: float
    bytes_per_photo: float
    skipped: tuple[PhotoError, ...] = field(default=())

    def as_json(self) -> dict[str, object]:
        """The documented JSON object (docs/COMMANDS.md)."""
        return {
            "queries": self.queries,
            "queries_with_positive": self.queries_with_positive,
            "global": self.global_recalls,
            "reranked": self.reranked_recalls,
            "scorer": self.scorer,
            "model": self.model,
            "ms_per_query": self.ms_per_query,
            "bytes_per_photo": self.bytes_per_photo,
        }


def evaluate(
    dataset: Dataset,
    *,
    model: str | Trunk = "auto",
    settings: Settings | None = None,
    threads: int | None = None,
    device: str = "cpu",
    progress: Progress = no_progress,
) -> Evaluation:
    """Recall of ``model`` with ``settings`` on ``dataset``, global and re-ranked.

    Photos that cannot be used are listed in ``skipped``; such a query counts as not found.
    """
    with tempfile.TemporaryDirectory(prefix="placerec-") as scratch:
        index = Path(scratch) / "database.placerec"
        report = build_index(
            index, dataset.database_folder, model=model, settings=settings, threads=threads,
            device=device, progress=progress,
        )  # fmt: skip
        with PlaceRecognizer.open(index, model=model, threads=threads, device=device) as recognizer:
            return _ask(dataset, recognizer, report.skipped, progress)


def _ask(
    dataset: Dataset, recognizer: PlaceRecognizer, skipped: list[PhotoError], progress: Progress
) -> Evaluation:
    by_global: dict[str, list[str]] = {}
    by_score: dict[str, list[str]] = {}
    seconds, answered = 0.0, 0
    top = max(*RECALL_AT, recognizer.settings.candidates)
    for done, query in enumerate(dataset.queries, start=1):
        by_global[query], by_score[query] = [], []
        progress("asking queries", done, len(dataset.queries))
        start = time.perf_counter()
        try:
            places = recognizer.query(dataset.queries_folder / query, top=top).places
        except PhotoError as error:
            skipped.append(error)
            continue
        seconds += time.perf_counter() - start
        by_score[query] = [place.path for place in places]
        similar = sorted(places, key=lambda place: (-place.global_score, place.path))
        by_global[query] = [place.path for place in similar]
        answered += 1
    reranks = recognizer.settings.reranks
    return Evaluation(
        queries=len(dataset.queries),
        queries_with_positive=sum(bool(found) for found in dataset.positives.values()),
        global_recalls=recalls(by_global, dataset.positives),
        reranked_recalls=recalls(by_score, dataset.positives) if reranks else None,
        scorer=recognizer.settings.scorer if reranks else None,
        model=recognizer.model.name,
        ms_per_query=1000.0 * seconds / max(answered, 1),
        bytes_per_photo=recognizer.index.info.bytes_per_photo,
        skipped=tuple(skipped),
    )
