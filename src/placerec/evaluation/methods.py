"""A method by name: what makes the shortlist, and what re-ranks it.

Our own methods (``settings.METHODS``) are both at once; of the baselines a retriever makes
shortlists alone, and a re-ranker takes the shortlists of the default method unless another one is
named. Every retriever combines with every re-ranker.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from placerec.baselines import RERANKERS, RETRIEVERS, Baseline, Made
from placerec.baselines.contract import Progress, Reranker, Retriever
from placerec.errors import UsageError
from placerec.evaluation.dataset import Search
from placerec.evaluation.engines import (
    DescriptorSearcher,
    IndexEngine,
    LocalVerifier,
    Searcher,
    Verifier,
)
from placerec.models.named import settings_for
from placerec.settings import METHODS, Settings
from placerec.trunks import Trunk
from placerec.workers import available_threads

BASELINE_CANDIDATES = 10  # a keypoint re-ranker takes 0.1 to 1 s a pair on a CPU
NO_RERANKING = "none"


@dataclass(frozen=True)
class Own:
    """One of our methods: the model that describes photos, and the settings."""

    name: str
    model: str | Trunk
    settings: Settings


@dataclass(frozen=True)
class Workplace:
    """Where and how a search is made ready: its work folder, threads, device, progress."""

    work: Path
    threads: int | None
    device: str
    progress: Progress

    @property
    def cores(self) -> int:
        """The number of threads: all cores where none is named."""
        return self.threads or available_threads()


@dataclass(frozen=True)
class Method:
    """What answers: ``retrieval``, then ``reranking`` (or none) of the first ``candidates``."""

    retrieval: Own | Retriever
    reranking: Own | Reranker | None
    candidates: int

    @property
    def name(self) -> str:
        """As tables show it."""
        if self.reranking is None or self.reranking is self.retrieval:
            return self.retrieval.name
        return f"{self.retrieval.name} + {self.reranking.name}"

    @property
    def scorer(self) -> str | None:
        """What orders the candidates; ``None`` for retrieval alone."""
        if isinstance(self.reranking, Own):
            return self.reranking.settings.scorer
        return self.reranking.name if self.reranking else None

    def as_json(self) -> dict[str, Any]:
        """What a run must be resumed with."""
        return {"name": self.name, "scorer": self.scorer,
                "candidates": self.candidates if self.reranking else 0,
                "retrieval": _json(self.retrieval), "reranking": _json(self.reranking)}  # fmt: skip

    def searcher(self, search: Search, where: Workplace) -> Searcher:
        """What makes the shortlists of ``search``; what took long is kept in the work folder."""
        if isinstance(self.retrieval, Own):
            return _index(self.retrieval, search, where)
        return DescriptorSearcher.open(
            search, self.retrieval, where.work, where.cores, where.progress
        )

    def verifier(
        self, search: Search, where: Workplace, searcher: Searcher | None = None
    ) -> Verifier | None:
        """What re-ranks them; the ``searcher`` itself where it is both."""
        if self.reranking is None:
            return None
        if self.reranking is self.retrieval and isinstance(searcher, IndexEngine):
            return searcher
        if isinstance(self.reranking, Own):
            return _index(self.reranking, search, where)
        return LocalVerifier.open(search, self.reranking, where.work, where.cores)


def own_method(
    name: str = "default", model: str | Trunk = "auto", settings: Settings | None = None
) -> Method:
    """One of our methods alone."""
    one = Own(name, model, settings or settings_for(model, name))
    return Method(one, one if one.settings.reranks else None, one.settings.candidates)


def named_method(
    name: str | None = None,
    rerank: str | None = None,
    *,
    model: str | Trunk = "auto",
    changes: Mapping[str, Any] | None = None,
    baseline: Mapping[str, Any] | None = None,
    threads: int = 1,
    retriever: Retriever | None = None,
) -> Method:
    """The method ``name``, re-ranked by ``rerank`` (a name, none, or what the method itself has).

    ``changes`` are settings of our own methods; ``baseline`` are options of a baseline, of the
    re-ranker where it takes them; ``retriever`` is taken in place of a named one. Raises
    ``UsageError`` for what cannot be combined.
    """
    changes, options = dict(changes or {}), dict(baseline or {})
    if name in RERANKERS and rerank is None:
        name, rerank = None, name
    second: Own | Reranker | None = None
    if rerank in RERANKERS:
        second = _made(RERANKERS[rerank], options, threads)
    elif rerank not in (None, NO_RERANKING):
        second = _own(rerank, model, changes)
        if not second.settings.patch_sizes:
            raise UsageError(f"--rerank {rerank}: it only retrieves; choose another one")
    first: Own | Retriever
    if retriever is not None:
        first = retriever
    elif name in RETRIEVERS:
        if model != "auto":
            raise UsageError(f"--model {model}: {name} has a descriptor of its own; leave it away")
        first = _made(RETRIEVERS[name], options, threads)
    else:
        first = _own(name, model, changes)
    if options:
        raise UsageError(f"{', '.join(sorted(options))}: no option of this method; leave it away")
    if rerank is None and isinstance(first, Own) and first.settings.reranks:
        second = first
    if isinstance(first, Own) and second is not first:  # no patches are kept for nothing
        bare = first.settings.replace(patch_sizes=(), scale_weights=None, candidates=0)
        first = replace(first, settings=bare)
    if isinstance(second, Own):
        return Method(first, second, second.settings.candidates)
    return Method(first, second, changes.get("candidates", BASELINE_CANDIDATES))


def _made(entry: Baseline[Made], options: dict[str, Any], threads: int) -> Made:
    """The baseline with the ``options`` that it takes; they are taken out."""
    taken = {key: options.pop(key) for key in entry.options if key in options}
    if "threads" in entry.options:
        taken["threads"] = threads
    return entry.make(**taken)


def _own(name: str | None, model: str | Trunk, changes: dict[str, Any]) -> Own:
    if name is not None and name not in METHODS:
        known = ", ".join((*METHODS, *RETRIEVERS, *RERANKERS))
        raise UsageError(f"method {name!r}: choose one of {known}")
    return Own(name or "default", model, settings_for(model, name, **changes))


def _index(own: Own, search: Search, where: Workplace) -> IndexEngine:
    digest = hashlib.sha256(own.settings.to_json().encode()).hexdigest()
    return IndexEngine.open(
        search, where.work / f"{digest[:16]}.placerec", own.model, own.settings, where.threads,
        where.device, where.progress,
    )  # fmt: skip


def _json(one: Own | Retriever | Reranker | None) -> dict[str, Any] | None:
    if one is None:
        return None
    if isinstance(one, Own):
        model = one.model if isinstance(one.model, str) else one.model.name
        return {"method": one.name, "model": Path(model).name, "settings": asdict(one.settings)}
    return {"method": one.name}
