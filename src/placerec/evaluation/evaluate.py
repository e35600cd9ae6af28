"""Run a method over a data set, in two phases: answer every query, then score the answers.

The first phase only asks: it writes ``predictions.jsonl`` and can be killed and gone on with. The
second reads nothing but that file and the data set's truth. A model is fitted on the database
photos alone, as ``placerec index build`` would; queries are only ever asked.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from placerec.baselines.contract import Progress, Verified
from placerec.errors import PhotoError, UsageError
from placerec.evaluation.dataset import Dataset, Search
from placerec.evaluation.engines import SEEDED, Searcher, Verifier
from placerec.evaluation.exchange import import_predictions
from placerec.evaluation.machine import machine, versions
from placerec.evaluation.methods import Method, Workplace, named_method
from placerec.evaluation.predictions import Prediction, PredictionFile
from placerec.evaluation.scoring.intervals import Estimate
from placerec.evaluation.scoring.metrics import CUTS, RECALL_AT
from placerec.evaluation.scoring.outcomes import Outcome, Scores, outcomes, scores
from placerec.index.describe import no_progress
from placerec.records import Array
from placerec.workers import single_threaded_blas

PREDICTIONS, WORK = "predictions.jsonl", "work"
FORMAT = 1
SHORTLIST = 100  # answers kept of every query, as the published program does


@dataclass(frozen=True)
class Run:
    """A scored run: what was asked, what was answered, how good that is, what it took."""

    dataset: Dataset
    predictions: PredictionFile = field(repr=False)
    outcomes: list[Outcome] = field(repr=False)
    scores: Scores
    facts: dict[str, Any]

    @property
    def skipped(self) -> list[str]:
        """The photos that could not be used, each with its reason."""
        return [told for facts in self.predictions.ended.values() for told in facts["skipped"]]

    def as_json(self) -> dict[str, Any]:
        """The documented JSON object (docs/COMMANDS.md)."""
        pooled, facts = self.scores.pooled, self.facts
        return {
            "queries": pooled.queries, "queries_with_positive": pooled.with_positive,
            "global": _recalls(pooled.retrieved),
            "reranked": pooled.reranked and _recalls(pooled.reranked),
            "scorer": facts["scorer"], "model": facts["model"],
            "ms_per_query": facts.get("ms_per_query"),
            "bytes_per_photo": facts.get("bytes_per_photo"),
            "method": facts["method"]["name"], "protocol": facts["protocol"],
            "scores": self.scores.as_json(),
        }  # fmt: skip

    def as_text(self) -> list[str]:
        """Lines for a person: recalls with their intervals, protocol, model, cost."""
        pooled, facts = self.scores.pooled, self.facts
        lines = [f"queries: {pooled.queries}, with a positive: {pooled.with_positive}"]
        if pooled.unanswered:
            lines.append(f"unanswered: {pooled.unanswered}, counted as not found")
        rows = [("global", pooled.retrieved)]
        if pooled.reranked is not None:
            rows.append((facts["scorer"] or "re-ranked", pooled.reranked))
        width = max(len(name) for name, _ in rows)
        if self.dataset.protocol.hidden:
            rows = []
            lines.append("the owner keeps the truth: hand in submission.txt of the run")
        for name, measures in rows:
            told = (f"recall@{n} {_told(measures[f'recall@{n}'])}" for n in RECALL_AT)
            lines.append(f"{name:{width}}  {'  '.join(told)}")
        lines += [f"weights: {told}" for told in facts["seeded"]]
        protocol = facts["protocol"]
        lines.append(f"protocol: {protocol['name']} ({protocol['rule']}), {protocol['hash'][:12]}")
        lines.append(f"model: {facts['model']}")
        if "bytes_per_photo" in facts:
            cost = facts["ms_per_query"], facts["bytes_per_photo"]
            lines.append("{:.0f} ms a query, {:.0f} bytes a photo".format(*cost))
        return lines


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
    counts as not found. Raises ``UsageError`` where ``out`` holds a run of something else.
    """
    chosen = method if isinstance(method, Method) else named_method(method)
    with (
        _work_folder(out) as work,
        _predictions(dataset, chosen, out) as file,
        single_threaded_blas(),
    ):
        for number, search in enumerate(dataset.searches):
            if search.name not in file.ended:
                where = Workplace(work / str(number), threads, device, progress)
                _ask(dataset, search, chosen, where, file)
    return scored(dataset, file)


def scored(dataset: Dataset, file: PredictionFile) -> Run:
    """The second phase: scores of predictions, wherever they come from."""
    found = outcomes(dataset, file.predictions)
    return Run(dataset, file, found, scores(dataset, found), _facts(dataset, file))


def scored_import(dataset: Dataset, form: str, path: Path, reranked: Path | None, out: Path) -> Run:
    """A run of another program's answers (``exchange``), kept in ``out`` and scored like ours."""
    found = import_predictions(form, dataset, path, reranked)
    method = {"name": path.name, "form": form, "scorer": reranked and reranked.name}
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
        "method": method, "versions": versions("torch", "kornia"),
    }  # fmt: skip


@contextmanager
def _work_folder(out: Path | None) -> Iterator[Path]:
    if out is not None:
        yield out / WORK
        return
    with tempfile.TemporaryDirectory(prefix="placerec-") as scratch:
        yield Path(scratch)


def _predictions(dataset: Dataset, method: Method, out: Path | None) -> PredictionFile:
    return PredictionFile(header(dataset, method.as_json()), out and out / PREDICTIONS)


def _ask(
    dataset: Dataset, search: Search, method: Method, where: Workplace, file: PredictionFile
) -> None:
    """Ask the queries of one search that are not answered yet."""
    start = time.perf_counter()
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
        file.begin(search.name, parts)
        ask = _Asker(
            dataset.protocol.photos_a_panorama, search, searcher, verifier, method.candidates, apart
        )
        _ask_each(dataset, search, ask, where, file)
        kept = searcher.bytes_per_photo
        if verifier is not None and apart:
            kept += verifier.bytes_per_photo
        answers = [file.predictions[search.name, query] for query in search.queries.names]
        file.end(search.name, {
            "photos": len(search.database), "bytes_per_photo": kept, "machine": machine(),
            "threads": where.cores, "seconds": time.perf_counter() - start,
            "skipped": [*map(str, searcher.skipped), *(a.error for a in answers if a.error)],
        })  # fmt: skip


def _ask_each(
    dataset: Dataset, search: Search, ask: _Asker, where: Workplace, file: PredictionFile
) -> None:
    label = f"asking {search.name}" if len(dataset.searches) > 1 else "asking queries"
    pairs = zip(search.queries.names, search.queries.paths, strict=True)
    for done, (name, path) in enumerate(pairs, start=1):
        where.progress(label, done, len(search.queries))
        if (search.name, name) in file.predictions:
            continue
        try:
            file.add(ask(name, path))
        except PhotoError as error:
            file.add(Prediction(search.name, name, (), error=str(error)))


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
            reranked = _ranking(self.search, *_reordered(found, verified))
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


def _reordered(found: list[int], verified: list[Verified]) -> tuple[list[int], list[float]]:
    """Candidates by falling score, ties in global order; the others behind, with the lowest."""
    scored = np.array([one.score for one in verified])
    order = np.argsort(-scored, kind="stable").tolist()
    lowest = min([0.0, *scored.tolist()])
    rest = found[len(verified) :]
    return [found[n] for n in order] + rest, scored[order].tolist() + [lowest] * len(rest)


def _ranking(
    search: Search, numbers: list[int], values: list[float]
) -> tuple[tuple[str, float], ...]:
    names = search.database.names
    return tuple((names[n], value) for n, value in zip(numbers, values, strict=True))


def _told(one: Estimate) -> str:
    if one.value is None or one.low is None:
        return "-"
    return f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"


def _recalls(measures: dict[str, Estimate]) -> dict[str, float | None]:
    return {f"recall@{n}": measures[f"recall@{n}"].value for n in CUTS}


def _facts(dataset: Dataset, file: PredictionFile) -> dict[str, Any]:
    """The header, and what the searches took together."""
    facts = {key: value for key, value in file.header.items() if key != "format"}
    facts |= {"queries": dataset.queries, "searches": file.begun}
    ended = list(file.ended.values())
    if ended:
        photos = sum(one["photos"] for one in ended)
        facts |= {
            "photos": photos,
            "bytes_per_photo": sum(o["photos"] * o["bytes_per_photo"] for o in ended) / photos,
            "seconds": sum(one["seconds"] for one in ended),
            "machine": ended[-1]["machine"], "threads": ended[-1]["threads"],
        }  # fmt: skip
    times = [p.milliseconds for p in file.predictions.values() if p.milliseconds]
    stages = {stage: 0.0 for one in times for stage in one}
    for stage in stages:
        stages[stage] = float(np.mean([one[stage] for one in times if stage in one]))
    begun = list(file.begun.values())
    models = dict.fromkeys(part["model"] for one in begun[:1] for part in one.values())
    facts["model"] = " + ".join(models) or "of another program"
    parts = [part for one in begun[:1] for part in one.values()]
    facts["seeded"] = [part["weights"] for part in parts if part.get("weights") == SEEDED]
    facts["scorer"] = file.header["method"].get("scorer")
    if stages:
        facts |= {"milliseconds": stages, "ms_per_query": sum(stages.values())}
    return facts
