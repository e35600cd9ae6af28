"""Run a method over a data set in two phases: answer every query, then score the answers.

The first phase writes ``predictions.jsonl``; it can be killed and resumed. The second phase reads
only that file and the ground truth. A model is fitted on the database photos alone, as
``placerec index build`` does. A run resumes only if everything its answers depend on is unchanged
(``header``).
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from placerec.errors import PhotoError, UsageError
from placerec.evaluation.dataset import Dataset, Photos, Search
from placerec.evaluation.exchange import import_predictions
from placerec.evaluation.methods import Method, named_method
from placerec.evaluation.predictions import Prediction, PredictionFile, Ranking
from placerec.evaluation.query_lists import foreign_photos
from placerec.evaluation.run import Run, facts_of, machine, versions
from placerec.evaluation.scoring.outcomes import foreign_outcomes, outcomes
from placerec.evaluation.scoring.scores import HIDDEN, scores
from placerec.evaluation.searchers import IndexSearcher, Part, Searcher, Verifier
from placerec.files import file_sha256, path_of
from placerec.index.calibrate import NOT_THE_DEFAULT
from placerec.method.ranking import rerank
from placerec.records import Array
from placerec.runtime import DEFAULT_RUNTIME, Runtime, require_runtime
from placerec.workers import single_threaded_blas

PREDICTIONS, WORK = "predictions.jsonl", "work"
FORMAT = 3  # of the header
SHORTLIST = 100  # answers stored per query, as the published program does


def evaluate(
    dataset: Dataset,
    method: Method | str | None = None,
    *,
    out: str | Path | None = None,
    foreign: str | Path | None = None,
    runtime: Runtime = DEFAULT_RUNTIME,
) -> Run:
    """Answer every query of ``dataset`` by ``method`` (default: ``default``); score the answers.

    The photos below the folder ``foreign`` are asked too. They show no place of the data set, and
    only the measures of confidence count them.

    With a folder ``out`` the run is stored there, and resumes when it is started again; without one
    nothing is written. Invalid photos are listed in ``skipped``; such a query counts as not found.
    Raises ``UsageError`` if ``out`` has a run with other weights, code or photos, if there are too
    few photos for the method, if a foreign photo is one of the data set, or if no answer of the
    method has a confidence that foreign photos could test; then nothing is written.
    """
    if not isinstance(dataset, Dataset):
        raise UsageError(f"dataset: {dataset!r:.100}; give what open_dataset returns")
    require_runtime(runtime)
    chosen = method if isinstance(method, Method) else named_method(method)
    out = None if out is None else path_of(out)
    others = _foreign(dataset, chosen, foreign)
    facts = header(dataset, chosen.as_json())
    if out is None or not (out / PREDICTIONS).is_file():
        for search in dataset.searches:
            chosen.check(search, runtime)
    facts |= {"device": runtime.device, "photo_sizes": _photo_sizes(dataset)}
    if others:
        listed = "\n".join((*others.names, _sizes(others.paths))).encode("utf-8", "surrogateescape")
        sha256 = hashlib.sha256(listed).hexdigest()
        facts["foreign_photos"] = {"photos": len(others), "sha256": sha256}
    with (
        PredictionFile(facts, out and out / PREDICTIONS) as file,
        _folder(out) as folder,
        single_threaded_blas(),
    ):
        for number, search in enumerate(dataset.searches):
            if not _answered(search, others, file):
                work = work_of(folder, file, number)
                _answer_search(dataset, search, others, chosen, work, runtime, file)
    return scored(dataset, file)


def work_of(out: Path, file: PredictionFile, number: int) -> Path:
    """Return the folder in which the search ``number`` of the run in ``out`` stores its work."""
    return out / WORK / file.key / str(number)


def scored(dataset: Dataset, file: PredictionFile) -> Run:
    """The second phase: score predictions, of any origin."""
    results = outcomes(dataset, file.predictions)
    measured = scores(dataset, results, foreign_outcomes(file.foreign))
    return Run(dataset, file, results, measured, facts_of(dataset, file, measured.pooled))


def scored_import(
    dataset: Dataset, form: str, path: str | Path, reranked: str | Path | None, out: str | Path
) -> Run:
    """Score the answers of another program (``exchange``) as a run in the folder ``out``."""
    path, out = Path(path), Path(out)
    reranked = None if reranked is None else Path(reranked)
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


def _foreign(dataset: Dataset, method: Method, folder: str | Path | None) -> Photos:
    """Return the foreign photos; refuse them if no confidence can be measured."""
    if folder is None:
        return Photos((), ())
    if dataset.protocol.hidden:
        raise UsageError(f"foreign: of {dataset.name} {HIDDEN}, so nothing is measured; omit it")
    if method.no_confidence:
        raise UsageError(
            f"foreign: tests the confidence of answers, and {method.name} has none "
            f"({method.no_confidence}); omit it"
        )
    return foreign_photos(dataset, folder)


def _photo_sizes(dataset: Dataset) -> str:
    """Return the digest ``_sizes`` of all photos of the data set."""
    sides = ((search.queries, search.database) for search in dataset.searches)
    return _sizes([path for side in sides for photos in side for path in photos.paths])


def _sizes(paths: Sequence[Path]) -> str:
    """Return the sha256 (hex) of the sizes in bytes of photos, in their order.

    It notices nearly every photo that was replaced or changed, and reads none: a large data set has
    many gigabytes. A missing photo has no size.
    """
    digest = hashlib.sha256()
    for path in paths:
        size = None
        with suppress(OSError):
            size = path.stat().st_size
        digest.update(f"{size}\n".encode("ascii"))
    return digest.hexdigest()


@contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    if out is not None:
        yield out
        return
    with tempfile.TemporaryDirectory(prefix="placerec-") as scratch:
        yield Path(scratch)


def _answered(search: Search, foreign: Photos, file: PredictionFile) -> bool:
    """Whether every query and foreign photo has an answer; a lost line is asked again."""
    groups = (search.queries, file.predictions), (foreign, file.foreign)
    return search.name in file.ended and all(
        (search.name, name) in answers for photos, answers in groups for name in photos.names
    )


def _answer_search(
    dataset: Dataset, search: Search, foreign: Photos, method: Method, work: Path,
    runtime: Runtime, file: PredictionFile,
) -> None:  # fmt: skip
    """Answer the queries of one search, and the foreign photos, that have no answer yet.

    The seconds in ``file`` are those of all starts of the run, also if this one is interrupted.
    """
    name = search.name
    label = f"asking {name}" if len(dataset.searches) > 1 else "asking queries"
    asked = [(photo, path, answers)
             for photos, answers in ((search.queries, file.predictions), (foreign, file.foreign))
             for photo, path in zip(photos.names, photos.paths, strict=True)]  # fmt: skip
    start = time.perf_counter() - file.spent.get(name, 0.0)

    def seconds() -> float:
        return round(time.perf_counter() - start, 3)

    work.mkdir(parents=True, exist_ok=True)
    try:
        with ExitStack() as stack:
            searcher = stack.enter_context(closing(method.searcher(search, work, runtime)))
            verifier = method.verifier(search, work, runtime, searcher)
            parts = {"retrieval": searcher.facts}
            if verifier is not None:
                parts["reranking"] = verifier.facts
                stack.enter_context(closing(verifier))
            file.begin(name, parts, seconds())
            asker = _Asker(dataset, search, searcher, verifier, method.candidates)
            for done, (photo, path, answers) in enumerate(asked, 1):
                runtime.progress(label, done, len(asked))
                if (name, photo) not in answers:
                    file.add(asker.predict(photo, path), seconds())
            stored = searcher.bytes_per_photo
            if asker.separate is not None:
                stored += asker.separate.bytes_per_photo
            errors = [answers[name, photo].error for photo, _, answers in asked]
            judge = asker.judge
            file.end(name, {
                "photos": len(search.database), "bytes_per_photo": stored,
                "machine": machine(), "threads": runtime.cores, "seconds": seconds(),
                "skipped": [*map(str, searcher.skipped), *filter(None, errors)],
                "no_confidence": judge.recognizer.uncalibrated if judge else NOT_THE_DEFAULT,
            })  # fmt: skip
    except (KeyboardInterrupt, SystemExit):  # the latter after SIGTERM
        file.pause(name, seconds())
        raise


@dataclass(frozen=True)
class _Asker:
    """One search, ready: turns a query photo into its prediction."""

    dataset: Dataset
    search: Search
    searcher: Searcher
    verifier: Verifier | None
    candidates: int

    @property
    def separate(self) -> Part | None:
        """The verifier, if it does not share what the searcher stores and encodes."""
        part: Part | None = self.verifier
        return None if part is self.searcher else part

    @property
    def judge(self) -> IndexSearcher | None:
        """The index that says how sure an answer is, if one index does all."""
        index = self.verifier
        return index if isinstance(index, IndexSearcher) and self.separate is None else None

    def predict(self, name: str, path: Path) -> Prediction:
        """Shortlist and re-rank; the time of each stage is that of this query alone."""
        try:
            start = time.perf_counter()
            query = local = self.searcher.encode(path)
            if self.separate is not None:
                local = self.separate.encode(path)
            encoded = time.perf_counter()
            numbers, cosines = self._shortlist(query)
            times = {"encode": encoded - start, "search": time.perf_counter() - encoded}
            reranked = None
            judgement: tuple[float | None, bool | None] = None, None
            if self.verifier is not None:
                candidates = numbers[: self.candidates]
                self.verifier.prepare(candidates)
                start = time.perf_counter()
                verified = self.verifier.verify(local, candidates)
                order, final = rerank(np.array([result.score for result in verified]), len(numbers))
                if self.judge is not None:
                    best = order[: len(verified)]
                    judgement = self.judge.judge(
                        query, [numbers[n] for n in best], final[: len(best)]
                    )
                times["rerank"] = time.perf_counter() - start
                reranked = self._ranking([numbers[n] for n in order], final.tolist())
        except PhotoError as error:
            return Prediction(self.search.name, name, (), error=str(error))
        milliseconds = {stage: 1000 * seconds for stage, seconds in times.items()}
        retrieved = self._ranking(numbers, cosines)
        labels = self.search.name, name
        return Prediction(*labels, retrieved, reranked, milliseconds, "", *judgement)

    def _shortlist(self, query: Any) -> tuple[list[int], list[float]]:
        """Return the first photos; only the best of each panorama (Torii et al., 2015)."""
        length, size = max(SHORTLIST, self.candidates), self.dataset.protocol.photos_a_panorama
        numbers, cosines = self.searcher.search(query, length * size)
        own = len(self.search.own_names)
        best: dict[int, int] = {}  # panorama to its first position
        for position, number in enumerate(numbers):
            best.setdefault(number // size if number < own else -number, position)
        positions = list(best.values())[:length]
        return [numbers[n] for n in positions], [cosines[n] for n in positions]

    def _ranking(self, numbers: list[int], values: list[float]) -> Ranking:
        names = self.search.database.names
        return tuple((names[n], value) for n, value in zip(numbers, values, strict=True))
