"""A scored run and what it states: measures, protocol, method, machine, cost."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from placerec.evaluation.dataset import Dataset
from placerec.evaluation.predictions import PredictionFile
from placerec.evaluation.scoring.confidence import (
    AUC,
    AUC_FOREIGN,
    ERROR,
    ERROR_WITH_FOREIGN,
    FOREIGN_IN_MAP,
    REFUSED,
)
from placerec.evaluation.scoring.intervals import Estimate
from placerec.evaluation.scoring.metrics import CUTS, FULL_PRECISION, RECALL_AT
from placerec.evaluation.scoring.outcomes import Outcome
from placerec.evaluation.scoring.scores import Group, Scores
from placerec.evaluation.searchers import SEEDED
from placerec.index.calibrate import NOT_THE_DEFAULT

EXTERNAL = "of another program"
PACKAGES = ("placerec", "numpy", "onnxruntime", "pillow", "opencv-python-headless")
CONFIDENCE = {
    ERROR: "calibration error", AUC: "AUC right against wrong", REFUSED: "right answers refused",
}  # fmt: skip
OPEN_SET = {
    FOREIGN_IN_MAP: "called in the map", AUC_FOREIGN: "AUC right against foreign",
    ERROR_WITH_FOREIGN: "calibration error",
}  # fmt: skip
SHA_DIGITS = 12  # of a sha256, as a person reads it


@dataclass(frozen=True)
class Run:
    """A scored run: the queries, the answers, how good they are, and what they cost."""

    dataset: Dataset
    predictions: PredictionFile = field(repr=False)
    outcomes: list[Outcome] = field(repr=False)
    scores: Scores
    facts: dict[str, Any]

    @property
    def skipped(self) -> list[str]:
        """The photos that cannot be read, each with its reason."""
        return [error for facts in self.predictions.ended.values() for error in facts["skipped"]]

    @property
    def fingerprints(self) -> list[str]:
        """The models that answered: per search its retrieval, then its re-ranking."""
        searches = self.predictions.begun.values()
        parts = [part["fingerprint"] for search in searches for part in search.values()]
        return list(dict.fromkeys(parts))

    def as_json(self) -> dict[str, Any]:
        """Return the documented JSON object (docs/COMMANDS.md)."""
        pooled, facts = self.scores.pooled, self.facts
        return {
            "queries": pooled.queries, "queries_with_positive": pooled.with_positive,
            "queries_without_positive": pooled.without_positive,
            "global": _recalls(pooled.retrieved),
            "reranked": pooled.reranked and _recalls(pooled.reranked),
            "scorer": facts["scorer"], "model": facts["model"],
            "ms_per_query": facts.get("ms_per_query"),
            "bytes_per_photo": facts.get("bytes_per_photo"),
            "method": facts["method"]["name"], "protocol": facts["protocol"],
            "fingerprints": self.fingerprints, "versions": facts["versions"],
            "machine": facts.get("machine"), "threads": facts.get("threads"),
            "seconds": facts.get("seconds"), "notes": facts["notes"],
            "scores": self.scores.as_json(),
        }  # fmt: skip

    def as_text(self) -> list[str]:
        """Return lines for a person: recalls with intervals, protocol, model, machine, cost."""
        pooled, facts = self.scores.pooled, self.facts
        judged = pooled.with_positive is not None
        counts = f", with a positive: {pooled.with_positive}, without: {pooled.without_positive}"
        lines = [f"queries: {pooled.queries}{counts if judged else ''}"]
        if pooled.unanswered:
            suffix = ", counted as not found" if judged else ""
            lines.append(f"unanswered: {pooled.unanswered}{suffix}")
        if judged:
            lines += _recall_lines(pooled, facts["scorer"])
            lines += _confidence_lines(self.scores)
        lines += facts["notes"]
        rule = facts["protocol"]
        lines.append(f"protocol: {rule['name']} ({rule['rule']}), list {rule['hash'][:SHA_DIGITS]}")
        prints = " + ".join(sha256[:SHA_DIGITS] for sha256 in self.fingerprints)
        lines.append(f"model: {facts['model']}{prints and f', fingerprint {prints}'}")
        installed = (f"{name} {v}" for name, v in facts["versions"].items() if v != "none")
        lines.append(f"versions: {', '.join(installed)}")
        return lines + list(_cost_lines(facts))


def versions(*more: str) -> dict[str, str]:
    """Return the versions of the packages that affect numbers; ``none`` if not installed."""
    installed = {}
    for package in (*PACKAGES, *more):
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            installed[package] = "none"
    return installed


def machine() -> str:
    """Return the system, the processor family and the number of cores."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count() or 1} cores"


def facts_of(dataset: Dataset, file: PredictionFile, pooled: Group) -> dict[str, Any]:
    """Return the header of a run, and the cost of its searches together."""
    facts = {key: value for key, value in file.header.items() if key != "format"}
    facts |= {"queries": dataset.queries, "searches": file.begun}
    ended = list(file.ended.values())
    reasons = filter(None, (search["no_confidence"] for search in ended))
    if reason := next(reasons, ""):
        facts["no_confidence"] = reason
    if ended:
        photos = sum(search["photos"] for search in ended)
        stored = sum(search["photos"] * search["bytes_per_photo"] for search in ended)
        facts |= {
            "photos": photos, "bytes_per_photo": stored / photos,
            "seconds": sum(search["seconds"] for search in ended),
            "machine": ended[-1]["machine"], "threads": ended[-1]["threads"],
        }  # fmt: skip
    parts = [part for search in list(file.begun.values())[:1] for part in search.values()]
    facts["model"] = " + ".join(dict.fromkeys(part["model"] for part in parts)) or EXTERNAL
    facts["seeded"] = [part["weights"] for part in parts if part.get("weights") == SEEDED]
    facts["scorer"] = file.header["method"].get("scorer")
    times = pooled.milliseconds
    if times:
        facts |= {"milliseconds": times, "ms_per_query": sum(times.values())}
    facts["notes"] = [f"weights: {text}" for text in facts["seeded"]]
    if dataset.protocol.hidden:
        facts["notes"].append(_submission_note(dataset, pooled))
    if reason not in ("", NOT_THE_DEFAULT):
        facts["notes"].append(f"no confidence: {reason}")
    return {**facts, "notes": [*facts["notes"], *_doubtful_score(pooled)]}


def _doubtful_score(pooled: Group) -> list[str]:
    """Say that the re-ranked score is the poorer sign of being right, if it is."""
    rankings = (pooled.reranked or {}, pooled.retrieved)
    reranked, retrieved = (ranking.get(FULL_PRECISION) for ranking in rankings)
    if reranked is None or retrieved is None or reranked.value is None or retrieved.value is None:
        return []
    if reranked.value >= retrieved.value:
        return []
    note = (
        f"the re-ranked score is a poorer sign of being right than the global score: recall at "
        f"full precision is {reranked.value:.3f} re-ranked and {retrieved.value:.3f} global; to "
        f"reject wrong answers by a threshold, use the global score"
    )
    return [note]


def _submission_note(dataset: Dataset, pooled: Group) -> str:
    """Say what to do if only the owner of the data set has the ground truth."""
    note = "the owner keeps the ground truth: submit submission.txt of the run"
    if not pooled.unanswered:
        return note
    if dataset.protocol.poses:
        return f"{note}; {pooled.unanswered} queries without an answer have no line in it"
    return f"{note}; {pooled.unanswered} without an answer: the first photos of the database in it"


def _recall_lines(pooled: Group, scorer: str | None) -> list[str]:
    rows = {"global": pooled.retrieved}
    if pooled.reranked is not None:
        rows[scorer or "re-ranked"] = pooled.reranked
    width = max(map(len, rows))
    lines = []
    for name, measures in rows.items():
        recalls = [f"recall@{n} {_estimate(measures[f'recall@{n}'])}" for n in RECALL_AT]
        lines.append(f"{name:{width}}  {'  '.join(recalls)}")
    return lines


def _confidence_lines(scores: Scores) -> list[str]:
    """How sure the answers are, if they say so; also with foreign photos, if they were asked."""
    lines = []
    if scores.pooled.confidence:
        lines.append(_values("confidence", scores.pooled.confidence, CONFIDENCE))
    if scores.open_set:
        photos = f"with {scores.open_set.photos} foreign photos"
        lines.append(_values(photos, scores.open_set.measures, OPEN_SET))
    return lines


def _values(name: str, measures: Mapping[str, Estimate], words: Mapping[str, str]) -> str:
    values = [f"{text} {_estimate(measures[measure])}" for measure, text in words.items()]
    return f"{name}: {', '.join(values)}"


def _cost_lines(facts: Mapping[str, Any]) -> list[str]:
    """The machine and the times; nothing for the predictions of another program."""
    if "machine" not in facts:
        return []
    threads = f"{facts['threads']} thread{'s' if facts['threads'] > 1 else ''}"
    size = f"{facts['bytes_per_photo']:.0f} bytes per photo"
    if "milliseconds" in facts:
        size = f"{facts['ms_per_query']:.0f} ms per query, {size}"
    return [f"machine: {facts['machine']}; {threads}; {facts['seconds']:.0f} s in total", size]


def _estimate(estimate: Estimate) -> str:
    if estimate.value is None or estimate.low is None:
        return "-"
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _recalls(measures: dict[str, Estimate]) -> dict[str, float | None]:
    return {f"recall@{n}": measures[f"recall@{n}"].value for n in CUTS}
