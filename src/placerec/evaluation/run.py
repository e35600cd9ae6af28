"""A scored run, and what it says of itself: measures, protocol, method, machine, cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from placerec.evaluation.dataset import Dataset
from placerec.evaluation.predictions import PredictionFile
from placerec.evaluation.scoring.intervals import Estimate
from placerec.evaluation.scoring.metrics import CUTS, RECALL_AT
from placerec.evaluation.scoring.outcomes import Group, Outcome, Scores
from placerec.evaluation.searchers import SEEDED

FROM_ELSEWHERE = "of another program"
SHA = 12  # digits of a sha256 that a person is shown


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

    @property
    def fingerprints(self) -> list[str]:
        """Of the models that answered: of each search its retrieval, then its re-ranking."""
        begun = self.predictions.begun.values()
        return list(dict.fromkeys(part["fingerprint"] for one in begun for part in one.values()))

    def as_json(self) -> dict[str, Any]:
        """The documented JSON object (docs/COMMANDS.md)."""
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
        """Lines for a person: recalls with their intervals, protocol, model, machine, cost."""
        pooled, facts = self.scores.pooled, self.facts
        known = pooled.with_positive is not None
        counts = f", with a positive: {pooled.with_positive}, without: {pooled.without_positive}"
        lines = [f"queries: {pooled.queries}{counts if known else ''}"]
        if pooled.unanswered:
            judged = ", counted as not found" if known else ""
            lines.append(f"unanswered: {pooled.unanswered}{judged}")
        if known:
            lines += _recall_lines(pooled, facts["scorer"])
        lines += facts["notes"]
        rule = facts["protocol"]
        lines.append(f"protocol: {rule['name']} ({rule['rule']}), list {rule['hash'][:SHA]}")
        short = " + ".join(one[:SHA] for one in self.fingerprints)
        lines.append(f"model: {facts['model']}{short and f', fingerprint {short}'}")
        versions = (f"{name} {one}" for name, one in facts["versions"].items() if one != "none")
        lines.append(f"versions: {', '.join(versions)}")
        return lines + list(_cost_lines(facts))


def facts_of(dataset: Dataset, file: PredictionFile, pooled: Group) -> dict[str, Any]:
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
    parts = [part for one in list(file.begun.values())[:1] for part in one.values()]
    facts["model"] = " + ".join(dict.fromkeys(part["model"] for part in parts)) or FROM_ELSEWHERE
    facts["seeded"] = [part["weights"] for part in parts if part.get("weights") == SEEDED]
    facts["scorer"] = file.header["method"].get("scorer")
    if stages:
        facts |= {"milliseconds": stages, "ms_per_query": sum(stages.values())}
    facts["notes"] = [f"weights: {told}" for told in facts["seeded"]] + _hidden(dataset, pooled)
    return facts


def _hidden(dataset: Dataset, pooled: Group) -> list[str]:
    """What is to be done where the owner keeps the truth."""
    if not dataset.protocol.hidden:
        return []
    told = "the owner keeps the truth: hand in submission.txt of the run"
    if pooled.unanswered and dataset.protocol.poses:
        told += f"; {pooled.unanswered} without an answer: no line in it"
    elif pooled.unanswered:
        told += f"; {pooled.unanswered} without an answer: the first photos of the database in it"
    return [told]


def _recall_lines(pooled: Group, scorer: str | None) -> list[str]:
    rows = [("global", pooled.retrieved)]
    if pooled.reranked is not None:
        rows.append((scorer or "re-ranked", pooled.reranked))
    width = max(len(name) for name, _ in rows)
    return [
        f"{name:{width}}  "
        + "  ".join(f"recall@{n} {_told(measures[f'recall@{n}'])}" for n in RECALL_AT)
        for name, measures in rows
    ]


def _cost_lines(facts: Mapping[str, Any]) -> list[str]:
    """Machine and times; nothing of the predictions of another program."""
    if "machine" not in facts:
        return []
    threads = f"{facts['threads']} thread{'s' if facts['threads'] > 1 else ''}"
    size = f"{facts['bytes_per_photo']:.0f} bytes a photo"
    spent = f"{facts['ms_per_query']:.0f} ms a query, {size}" if "milliseconds" in facts else size
    return [f"machine: {facts['machine']}; {threads}; {facts['seconds']:.0f} s in all", spent]


def _told(one: Estimate) -> str:
    if one.value is None or one.low is None:
        return "-"
    return f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"


def _recalls(measures: dict[str, Estimate]) -> dict[str, float | None]:
    return {f"recall@{n}": measures[f"recall@{n}"].value for n in CUTS}
