"""Run a method over a data set, in two phases: answer every query, then score the answers.

The first phase only asks: it writes ``predictions.jsonl`` and can be killed and gone on with. The
second reads nothing but that file and the data set's truth. A model is fitted on the database
photos alone, as ``placerec index build`` would; queries are only ever asked. A run is only gone on
with where all that its answers rest on is as it was (``header``).
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

from placerec.baselines.contract import Progress
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
from placerec.runtime import no_progress
from placerec.workers import single_threaded_blas

PREDICTIONS, WORK = "predictions.jsonl", "work"
FORMAT = 2  # of the header; 1 had names where 2 has contents
SHORTLIST = 100  # answers kept of every query, as the published program does


def evaluate(
    dataset: Dataset,
    method: Method | str | None = None,
    *,
    out: Path | None = None,
    threads: int | None = None,
    device: str = "cpu",
    progress: Progress = no_progress,
) -> Run:
    """Answer every query of ``dataset`` by ``method`` (default: our own), and score the answers.

    With a folder ``out`` the run is kept there and goes on where it was when started again; without
    one nothing is written. Photos that cannot be used are listed in ``skipped``; such a query
    counts as not found. Raises ``UsageError`` where ``out`` holds a run of something else: of other
    weights, code or photos too, though their names be the same.
    """
    chosen = method if isinstance(method, Method) else named_method(method)
    told = header(dataset, chosen.as_json()) | {"device": device, "photo_sizes": sizes_of(dataset)}
    with (
        PredictionFile(told, out and out / PREDICTIONS) as file,
        _folder(out) as folder,
        single_threaded_blas(),
    ):
        for number, search in enumerate(dataset.searches):
            if not _answered(search, file):
                work = work_of(folder, file, number)
                _ask(dataset, search, chosen, Workplace(work, threads, device, progress), file)
    return scored(dataset, file)


def work_of(out: Path, file: PredictionFile, number: int) -> Path:
    """Where the search ``number`` of a run in ``out`` keeps what takes long; of this run alone."""
    return out / WORK / file.key / str(number)


def scored(dataset: Dataset, file: PredictionFile) -> Run:
    """The second phase: scores of predictions, wherever they come from."""
    found = outcomes(dataset, file.predictions)
    measured = scores(dataset, found)
    return Run(dataset, file, found, measured, facts_of(dataset, file, measured.pooled))


def scored_import(dataset: Dataset, form: str, path: Path, reranked: Path | None, out: Path) -> Run:
    """A run of another program's answers (``exchange``), kept in ``out`` and scored like ours."""
    found = import_predictions(form, dataset, path, reranked)
    method = {"name": path.name, "form": form, "scorer": reranked and reranked.name,
              "files": [file_sha256(one) for one in (path, reranked) if one]}  # fmt: skip
    with PredictionFile(header(dataset, method), out / PREDICTIONS) as file:
        for key, prediction in found.items():
            if file.predictions.get(key) is None:
                file.add(prediction)
    return scored(dataset, file)


def check_protocol(file: PredictionFile, dataset: Dataset) -> None:
    """Refuse a data set or protocol other than the one that the run was asked by."""
    asked = file.header["protocol"]
    if asked["hash"] != dataset.hash:
        raise UsageError(
            f"the run is of {asked['name']!r} ({asked['hash'][:12]}), the data set gives "
            f"{dataset.protocol.name!r} ({dataset.hash[:12]}); name the same protocol and options"
        )


def matched(
    run: Run, verifier: Verifier, candidates: int, search: Search, query: str, database: str
) -> Array:
    """The agreeing points (M, 4) of a query and a database photo, in fractions (``Verified``).

    They are scored among the same candidates as in the run: some scorers look at all of them.
    """
    numbers = {name: number for number, name in enumerate(search.database.names)}
    retrieved = run.predictions.predictions[search.name, query].retrieved
    rows = [numbers[name] for name, _ in retrieved[:candidates]]
    rows = rows if numbers[database] in rows else [*rows, numbers[database]]
    photo = search.queries.paths[search.queries.names.index(query)]
    with single_threaded_blas():
        found = verifier.verify(verifier.encode(photo), rows)
    return found[rows.index(numbers[database])].points


def header(dataset: Dataset, method: dict[str, Any]) -> dict[str, Any]:
    """What a run is of: a run is only gone on with where all of it is the same."""
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
    """Whether nothing is left to ask; a line that was lost is asked again."""
    queries = search.queries.names
    return search.name in file.ended and all((search.name, q) in file.predictions for q in queries)


def _ask(
    dataset: Dataset, search: Search, method: Method, where: Workplace, file: PredictionFile
) -> None:
    """Ask the queries of one search that are not answered yet; the clock goes on where it was."""
    clock = _Clock(file.spent.get(search.name, 0.0))
    try:
        _ask_open(dataset, search, method, where, file, clock)
    except (KeyboardInterrupt, SystemExit):  # the latter: told to end
        file.pause(search.name, clock.seconds)
        raise


def _ask_open(
    dataset: Dataset, search: Search, method: Method, where: Workplace, file: PredictionFile,
    clock: _Clock,
) -> None:  # fmt: skip
    where.work.mkdir(parents=True, exist_ok=True)
    with ExitStack() as open_engines:
        searcher = open_engines.enter_context(closing(method.searcher(search, where)))
        verifier = method.verifier(search, where, searcher)
        apart = method.reranking is not method.retrieval
        parts = {"retrieval": searcher.facts}
        if verifier is not None:
            if apart:
                open_engines.enter_context(closing(verifier))
            parts["reranking"] = verifier.facts
        file.begin(search.name, parts, clock.seconds)
        ask = _Asker(
            dataset.protocol.photos_a_panorama, search, searcher, verifier, method.candidates, apart
        )
        _ask_each(dataset, search, ask, where, file, clock)
        kept = searcher.bytes_per_photo
        if verifier is not None and apart:
            kept += verifier.bytes_per_photo
        answers = [file.predictions[search.name, query] for query in search.queries.names]
        file.end(search.name, {
            "photos": len(search.database), "bytes_per_photo": kept, "machine": machine(),
            "threads": where.cores, "seconds": clock.seconds,
            "skipped": [*map(str, searcher.skipped), *(a.error for a in answers if a.error)],
        })  # fmt: skip


def _ask_each(
    dataset: Dataset, search: Search, ask: _Asker, where: Workplace, file: PredictionFile,
    clock: _Clock,
) -> None:  # fmt: skip
    label = f"asking {search.name}" if len(dataset.searches) > 1 else "asking queries"
    pairs = zip(search.queries.names, search.queries.paths, strict=True)
    for done, (name, path) in enumerate(pairs, start=1):
        where.progress(label, done, len(search.queries))
        if (search.name, name) in file.predictions:
            continue
        try:
            file.add(ask(name, path), clock.seconds)
        except PhotoError as error:
            file.add(Prediction(search.name, name, (), error=str(error)), clock.seconds)


class _Clock:
    """Seconds that a search took: those ``before``, of earlier sessions, and those of this one."""

    def __init__(self, before: float) -> None:
        self._start = time.perf_counter() - before

    @property
    def seconds(self) -> float:
        return round(time.perf_counter() - self._start, 3)


@dataclass(frozen=True)
class _Asker:
    """One search, ready: a query photo to its prediction."""

    panorama: int
    search: Search
    searcher: Searcher
    verifier: Verifier | None
    candidates: int
    apart: bool  # the verifier keeps and reads what the searcher does not

    def __call__(self, name: str, path: Path) -> Prediction:
        """Shortlist, re-rank; the time of each stage is that of this query alone."""
        length = max(SHORTLIST, self.candidates)
        start = time.perf_counter()
        query = self.searcher.encode(path)
        pending = self.verifier.encode(path) if self.verifier and self.apart else query
        encoded = time.perf_counter()
        found, similar = self._shortlist(query, length)
        times = {"encode": encoded - start, "search": time.perf_counter() - encoded}
        reranked = None
        if self.verifier is not None:
            first = found[: self.candidates]
            self.verifier.prepare(first)
            start = time.perf_counter()
            verified = self.verifier.verify(pending, first)
            times["rerank"] = time.perf_counter() - start
            order, scores = rerank(np.array([one.score for one in verified]), len(found))
            reranked = _ranking(self.search, [found[n] for n in order], scores.tolist())
        return Prediction(
            self.search.name, name, _ranking(self.search, found, similar), reranked,
            {stage: 1000 * seconds for stage, seconds in times.items()},
        )  # fmt: skip

    def _shortlist(self, query: Any, length: int) -> tuple[list[int], list[float]]:
        """The first ``length`` photos, of each panorama only the best (Torii et al., 2015)."""
        found, similar = self.searcher.search(query, length * self.panorama)
        own = len(self.search.database) - self.search.distractors
        seen: set[int] = set()
        keep = []
        for place, number in enumerate(found):
            panorama = number // self.panorama if number < own else -number
            if self.panorama == 1 or panorama not in seen:
                seen.add(panorama)
                keep.append(place)
        keep = keep[:length]
        return [found[place] for place in keep], [similar[place] for place in keep]


def _ranking(
    search: Search, numbers: list[int], values: list[float]
) -> tuple[tuple[str, float], ...]:
    names = search.database.names
    return tuple((names[n], value) for n, value in zip(numbers, values, strict=True))
