"""Run a method over a data set in two phases: answer every query, then score the answers.

The first phase writes ``predictions.jsonl``; it can be killed and resumed. The second phase reads
only that file and the ground truth. A model is fitted on the database photos alone, as
``placerec index build`` does. A run resumes only if everything its answers depend on is unchanged
(``header``).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from placerec.errors import PhotoError, UsageError
from placerec.evaluation.dataset import Dataset, Search
from placerec.evaluation.exchange import import_predictions
from placerec.evaluation.identity import sizes_of
from placerec.evaluation.machine import machine, versions
from placerec.evaluation.methods import Method, Workplace, named_method
from placerec.evaluation.predictions import Prediction, PredictionFile
from placerec.evaluation.run import Run, facts_of
from placerec.evaluation.scoring.outcomes import outcomes, scores
from placerec.evaluation.searchers import Searcher, Verifier
from placerec.files import file_sha256
from placerec.method.ranking import rerank
from placerec.records import Array
from placerec.runtime import DEFAULT_RUNTIME, Runtime
from placerec.workers import single_threaded_blas

PREDICTIONS, WORK = "predictions.jsonl", "work"
FORMAT = 2  # of the header
SHORTLIST = 100  # answers stored per query, as the published program does


def evaluate(
    dataset: Dataset,
    method: Method | str | None = None,
    *,
    out: Path | None = None,
    runtime: Runtime = DEFAULT_RUNTIME,
) -> Run:
    """Answer every query of ``dataset`` by ``method`` (default: ``default``); score the answers.

    With a folder ``out`` the run is stored there, and resumes when it is started again; without one
    nothing is written. Invalid photos are listed in ``skipped``; such a query counts as not found.
    Raises ``UsageError`` if ``out`` has a run with other weights, code or photos.
    """
    chosen = method if isinstance(method, Method) else named_method(method)
    facts = header(dataset, chosen.as_json())
    facts |= {"device": runtime.device, "photo_sizes": sizes_of(dataset)}
    with (
        PredictionFile(facts, out and out / PREDICTIONS) as file,
        _folder(out) as folder,
        single_threaded_blas(),
    ):
        for number, search in enumerate(dataset.searches):
            if not _answered(search, file):
                place = Workplace(work_of(folder, file, number), runtime)
                _SearchRun.resume(dataset, search, chosen, place, file)
    return scored(dataset, file)


def work_of(out: Path, file: PredictionFile, number: int) -> Path:
    """Return the folder in which the search ``number`` of the run in ``out`` stores its work."""
    return out / WORK / file.key / str(number)


def scored(dataset: Dataset, file: PredictionFile) -> Run:
    """The second phase: score predictions, of any origin."""
    results = outcomes(dataset, file.predictions)
    measured = scores(dataset, results)
    return Run(dataset, file, results, measured, facts_of(dataset, file, measured.pooled))


def scored_import(dataset: Dataset, form: str, path: Path, reranked: Path | None, out: Path) -> Run:
    """Score the answers of another program (``exchange``) as a run in the folder ``out``."""
    predictions = import_predictions(form, dataset, path, reranked)
    method = {"name": path.name, "form": form, "scorer": reranked and reranked.name,
              "files": [file_sha256(file) for file in (path, reranked) if file]}  # fmt: skip
    with PredictionFile(header(dataset, method), out / PREDICTIONS) as file:
        for key, prediction in predictions.items():
            if file.predictions.get(key) is None:
                file.add(prediction)
    return scored(dataset, file)


def check_protocol(file: PredictionFile, dataset: Dataset) -> None:
    """Raise ``UsageError`` if the run has another data set or protocol than ``dataset``."""
    asked = file.header["protocol"]
    if asked["hash"] != dataset.hash:
        raise UsageError(
            f"the run has {asked['name']!r} ({asked['hash'][:12]}), the data set has "
            f"{dataset.protocol.name!r} ({dataset.hash[:12]}); give the same protocol and options"
        )


def matched(
    run: Run, verifier: Verifier, candidates: int, search: Search, query: str, database: str
) -> Array:
    """Return the matched points (M, 4) of a query and a database photo, as ``Verified`` does.

    They are scored among the candidates of the run, because some scorers look at all of them.
    """
    numbers = {name: number for number, name in enumerate(search.database.names)}
    retrieved = run.predictions.predictions[search.name, query].retrieved
    rows = [numbers[name] for name, _ in retrieved[:candidates]]
    rows = rows if numbers[database] in rows else [*rows, numbers[database]]
    photo = search.queries.paths[search.queries.names.index(query)]
    with single_threaded_blas():
        verified = verifier.verify(verifier.encode(photo), rows)
    return verified[rows.index(numbers[database])].points


def header(dataset: Dataset, method: dict[str, Any]) -> dict[str, Any]:
    """Return what identifies a run: it resumes only if all of it is unchanged."""
    rule = dataset.protocol
    return {
        "format": FORMAT, "dataset": dataset.name,
        "protocol": {"name": rule.name, "rule": rule.rule, "hash": dataset.hash},
        "method": method, "versions": versions("torch", "kornia", "transformers"),
    }  # fmt: skip


@contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    if out is not None:
        yield out
        return
    with tempfile.TemporaryDirectory(prefix="placerec-") as scratch:
        yield Path(scratch)


def _answered(search: Search, file: PredictionFile) -> bool:
    """Whether every query has an answer; a lost line is asked again."""
    names = search.queries.names
    return search.name in file.ended and all((search.name, n) in file.predictions for n in names)


@dataclass(frozen=True)
class _SearchRun:
    """One search of a run: asks the queries that have no answer yet.

    ``start`` is such that ``seconds`` includes the time before an interruption.
    """

    dataset: Dataset
    search: Search
    method: Method
    place: Workplace
    file: PredictionFile
    start: float

    @classmethod
    def resume(
        cls, dataset: Dataset, search: Search, method: Method, place: Workplace,
        file: PredictionFile,
    ) -> None:  # fmt: skip
        """Answer the queries of one search; note the time if it is interrupted."""
        start = time.perf_counter() - file.spent.get(search.name, 0.0)
        run = cls(dataset, search, method, place, file, start)
        try:
            run._ask_all()
        except (KeyboardInterrupt, SystemExit):  # the latter after SIGTERM
            file.pause(search.name, run.seconds)
            raise

    @property
    def seconds(self) -> float:
        """The time of this search so far."""
        return round(time.perf_counter() - self.start, 3)

    def _ask_all(self) -> None:
        self.place.work.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            searcher = stack.enter_context(closing(self.method.searcher(self.search, self.place)))
            verifier = self.method.verifier(self.search, self.place, searcher)
            separate = verifier if self.method.separate else None
            if separate is not None:
                stack.enter_context(closing(separate))
            parts = {"retrieval": searcher.facts}
            if verifier is not None:
                parts["reranking"] = verifier.facts
            self.file.begin(self.search.name, parts, self.seconds)
            panorama = self.dataset.protocol.photos_a_panorama
            asker = _Asker(
                panorama, self.search, searcher, verifier, self.method.candidates,
                self.method.separate,
            )  # fmt: skip
            self._ask(asker)
            stored = searcher.bytes_per_photo
            stored += separate.bytes_per_photo if separate else 0.0
            names = self.search.queries.names
            answers = [self.file.predictions[self.search.name, name] for name in names]
            errors = [answer.error for answer in answers if answer.error]
            self.file.end(self.search.name, {
                "photos": len(self.search.database), "bytes_per_photo": stored,
                "machine": machine(), "threads": self.place.runtime.cores,
                "seconds": self.seconds, "skipped": [*map(str, searcher.skipped), *errors],
            })  # fmt: skip

    def _ask(self, asker: _Asker) -> None:
        name = self.search.name
        label = f"asking {name}" if len(self.dataset.searches) > 1 else "asking queries"
        queries = self.search.queries
        for done, (query, path) in enumerate(zip(queries.names, queries.paths, strict=True), 1):
            self.place.runtime.progress(label, done, len(queries))
            if (name, query) in self.file.predictions:
                continue
            try:
                self.file.add(asker(query, path), self.seconds)
            except PhotoError as error:
                self.file.add(Prediction(name, query, (), error=str(error)), self.seconds)


@dataclass(frozen=True)
class _Asker:
    """One search, ready: turns a query photo into its prediction."""

    panorama: int
    search: Search
    searcher: Searcher
    verifier: Verifier | None
    candidates: int
    separate: bool

    def __call__(self, name: str, path: Path) -> Prediction:
        """Shortlist and re-rank; the time of each stage is that of this query alone."""
        length = max(SHORTLIST, self.candidates)
        start = time.perf_counter()
        query = local = self.searcher.encode(path)
        if self.verifier is not None and self.separate:
            local = self.verifier.encode(path)
        encoded = time.perf_counter()
        numbers, cosines = self._shortlist(query, length)
        times = {"encode": encoded - start, "search": time.perf_counter() - encoded}
        reranked = None
        if self.verifier is not None:
            candidates = numbers[: self.candidates]
            self.verifier.prepare(candidates)
            start = time.perf_counter()
            verified = self.verifier.verify(local, candidates)
            order, final = rerank(np.array([result.score for result in verified]), len(numbers))
            times["rerank"] = time.perf_counter() - start
            reranked = _ranking(self.search, [numbers[n] for n in order], final.tolist())
        milliseconds = {stage: 1000 * seconds for stage, seconds in times.items()}
        retrieved = _ranking(self.search, numbers, cosines)
        return Prediction(self.search.name, name, retrieved, reranked, milliseconds)

    def _shortlist(self, query: Any, length: int) -> tuple[list[int], list[float]]:
        """The first ``length`` photos; only the best of each panorama (Torii et al., 2015)."""
        numbers, cosines = self.searcher.search(query, length * self.panorama)
        own = len(self.search.database) - self.search.distractors
        best: dict[int, int] = {}  # panorama to its first position
        for position, number in enumerate(numbers):
            panorama = number // self.panorama if number < own else -number
            best.setdefault(panorama, position)
        positions = list(best.values())[:length]
        return [numbers[n] for n in positions], [cosines[n] for n in positions]


def _ranking(
    search: Search, numbers: list[int], values: list[float]
) -> tuple[tuple[str, float], ...]:
    names = search.database.names
    return tuple((names[n], value) for n, value in zip(numbers, values, strict=True))
