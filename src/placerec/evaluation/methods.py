"""A method by name: what makes the shortlist, and what re-ranks it.

Our own methods (``settings.METHODS``) are both at once; of the baselines a retriever makes
shortlists alone, and a re-ranker takes the shortlists of the default method unless another one is
named. Every retriever combines with every re-ranker. An option that changes nothing is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from placerec.baselines import RERANKERS, RETRIEVERS, Baseline, Made
from placerec.baselines.contract import Progress, Recorded, Reranker, Retriever
from placerec.errors import UsageError
from placerec.evaluation.dataset import Search
from placerec.evaluation.identity import code_of, weights_of
from placerec.evaluation.searchers import (
    DescriptorSearcher,
    IndexEngine,
    LocalVerifier,
    Searcher,
    Verifier,
)
from placerec.models.resolve import settings_for
from placerec.runtime import Runtime, available_threads
from placerec.settings import METHODS, Settings
from placerec.trunks import Trunk

BASELINE_CANDIDATES = 10  # a keypoint re-ranker takes 0.1 to 1 s a pair on a CPU
NO_RERANKING = "none"
# Settings that decide a shortlist; with ``shared_pca`` those of its patches do too.
OF_SHORTLISTS = {
    "image_size", "pooling", "image_centring", "local_dim", "local_whitening", "clusters", "bands",
    "global_dim", "whitening", "trunk",
}  # fmt: skip
OF_SHARED_PCA = {"pca_dim", "k_patch"}


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
    """What answers: ``retrieval``, then ``reranking`` (or none) of the first ``candidates``.

    ``code``: sha256 by file name of what runs and has no weights to be known by, such as a network
    of the user's own.
    """

    retrieval: Own | Retriever
    reranking: Own | Reranker | None
    candidates: int
    code: Mapping[str, str] = field(default_factory=dict)

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
        """What a run must be resumed with. Reads the weight files of our own methods."""
        read: dict[tuple[str | Trunk, str], dict[str, str]] = {}
        return {"name": self.name, "scorer": self.scorer,
                "candidates": self.candidates if self.reranking else 0,
                "retrieval": _json(self.retrieval, read), "reranking": _json(self.reranking, read),
                "code": dict(self.code)}  # fmt: skip

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
    torch_module: str | None = None,
    device: str = "cpu",
) -> Method:
    """The method ``name``, re-ranked by ``rerank`` (a name, none, or what the method itself has).

    ``changes`` are settings of our own methods; ``baseline`` are options of a baseline, of the
    re-ranker where it takes them; ``torch_module`` (``baselines.torch_module``) makes the shortlist
    in place of a named method. Nothing is re-ranked where ``candidates`` is 0. Raises
    ``UsageError`` for what cannot be combined, and for what would change nothing.
    """
    changes, options = dict(changes or {}), dict(baseline or {})
    if name in RERANKERS:
        if rerank is not None:
            raise UsageError(f"--method {name}: it re-ranks, as --rerank {rerank} does; name one")
        name, rerank = None, name
    if rerank is not None:
        _check_reranker(rerank)
    if torch_module is None and rerank == (name or "default") and METHODS[rerank].reranks:
        rerank = None  # what it does by itself
    if changes.get("candidates") == 0:
        rerank = NO_RERANKING
    second: Own | Reranker | None = None
    if rerank in RERANKERS:
        second = _made(RERANKERS[rerank], options, threads)
    elif rerank not in (None, NO_RERANKING):
        second = _own(rerank, model, changes)
        if not second.settings.patch_sizes:
            raise UsageError(f"--rerank {rerank}: it only retrieves; choose another one")
    first, code = _first(name, torch_module, options, model, changes, threads, device)
    if options:
        raise UsageError(f"{_flags(options)}: no option of this method; leave it away")
    if rerank is None and isinstance(first, Own) and first.settings.reranks:
        second = first
    if isinstance(first, Own) and second is not first:  # no patches are kept for nothing
        bare = first.settings.replace(patch_sizes=(), scale_weights=None, candidates=0)
        first = replace(first, settings=bare)
    candidates = changes.get("candidates", BASELINE_CANDIDATES)
    if isinstance(second, Own):
        candidates = second.settings.candidates
    found = Method(first, second, candidates if second else 0, code)
    _check_all_apply(found, model, changes, device if torch_module is None else "cpu")
    return found


def _check_reranker(rerank: str) -> None:
    if rerank in RETRIEVERS:
        raise UsageError(f"--rerank {rerank}: it only retrieves; choose another one")
    known = (NO_RERANKING, *METHODS, *RERANKERS)
    if rerank not in known:
        raise UsageError(f"--rerank {rerank}: choose one of {', '.join(known)}")


def _first(
    name: str | None, torch_module: str | None, options: dict[str, Any], model: str | Trunk,
    changes: Mapping[str, Any], threads: int, device: str,
) -> tuple[Own | Retriever, dict[str, str]]:  # fmt: skip
    """What makes the shortlist, and its code."""
    if torch_module is not None:
        if name is not None:
            raise UsageError(
                f"--method {name}: --torch-module makes the shortlist; leave one of the two away "
                f"(--rerank names what orders it)"
            )
        from placerec.baselines.torch_module import GlobalModule, open_module

        network, size = open_module(torch_module, Runtime(threads=threads, device=device))
        code = code_of(torch_module)
        if isinstance(network, GlobalModule):
            return network, code
        return Own("netvlad", network, METHODS["netvlad"].replace(image_size=size)), code
    if name in RETRIEVERS:
        return _made(RETRIEVERS[name], options, threads), {}
    return _own(name, model, changes), {}


def _check_all_apply(
    method: Method, model: str | Trunk, changes: Mapping[str, Any], device: str
) -> None:
    """Refuse what was asked for and would change nothing."""
    parts = [part for part in (method.retrieval, method.reranking) if isinstance(part, Own)]
    own = [part for part in parts if part.model == model]  # not the trunk of ``torch_module``
    left = set(changes)
    for one in own:
        left -= OF_SHORTLISTS
        if one.settings.shared_pca:
            left -= OF_SHARED_PCA
        if one is method.reranking:
            left -= {each.name for each in fields(Settings)} - {"spatial_form"}
            if one.settings.scorer == "spatial":
                left -= {"spatial_form"}
    if method.reranking is not None or changes.get("candidates") == 0:
        left -= {"candidates"}
    if not own:
        left |= {name for name, odd in (("model", model != "auto"), ("device", device != "cpu"))
                 if odd}  # fmt: skip
    if left:
        raise UsageError(f"{_flags(left)}: changes nothing of {method.name} here; leave it away")


def _flags(names: Iterable[str]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in sorted(names))


def _made(entry: Baseline[Made], options: dict[str, Any], threads: int) -> Made:
    """The baseline with the ``options`` that it takes; they are taken out."""
    taken = {key: options.pop(key) for key in entry.options if key in options}
    if "threads" in entry.options:
        taken["threads"] = threads
    return entry.make(**taken)


def _own(name: str | None, model: str | Trunk, changes: Mapping[str, Any]) -> Own:
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


def _json(
    one: Own | Retriever | Reranker | None, read: dict[tuple[str | Trunk, str], dict[str, str]]
) -> dict[str, Any] | None:
    """What ``one`` is; ``read`` holds the weights of models that were read already."""
    if one is None:
        return None
    if not isinstance(one, Own):
        known = {"method": one.name, **(one.record if isinstance(one, Recorded) else {})}
        with suppress(UsageError):  # a fit that is yet to be made: of photos that are compared too
            known["fingerprint"] = one.fingerprint
        return known
    key = one.model, one.settings.trunk
    if key not in read:
        read[key] = weights_of(one.model, one.settings)
    model = one.model if isinstance(one.model, str) else one.model.name
    return {"method": one.name, "model": Path(model).name, "weights": read[key],
            "settings": asdict(one.settings)}  # fmt: skip
