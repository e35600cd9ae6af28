"""A method by name: what makes the shortlist, and what re-ranks it.

Our own methods (``settings.METHODS``) do both. A baseline is a retriever, which makes shortlists
only, or a re-ranker, which takes the shortlists of the default method unless another method is
named. Every retriever combines with every re-ranker. An option that changes nothing is refused.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from placerec.baselines import RERANKERS, RETRIEVERS, Baseline, Made
from placerec.baselines.contract import Recorded, Reranker, Retriever
from placerec.device import open_device
from placerec.errors import UsageError
from placerec.evaluation.dataset import Search
from placerec.evaluation.searchers import (
    DescriptorSearcher,
    IndexSearcher,
    LocalVerifier,
    Searcher,
    Verifier,
)
from placerec.files import file_sha256
from placerec.index.calibrate import NOT_THE_DEFAULT, no_confidence
from placerec.index.presets import Storage, preset_for, preset_named
from placerec.models.resolve import AUTO, AnyModel, resolve, settings_for
from placerec.runtime import DEFAULT_RUNTIME, Runtime
from placerec.settings import METHODS, AnySettings, require_choice
from placerec.trunks import Trunk

BASELINE_CANDIDATES = 10  # a keypoint re-ranker takes 0.1 to 1 s per pair on a CPU
NO_RERANKING = "none"


@dataclass(frozen=True)
class Own:
    """One of our methods: the model that describes photos, the settings, how they are stored."""

    name: str
    model: str | Trunk
    settings: AnySettings
    preset: str | None = None

    @property
    def record(self) -> dict[str, Any]:
        """What a resumed run must have in common; this opens the weights."""
        model = self.model if isinstance(self.model, str) else self.model.name
        weights = resolve(self.model, self.settings).digests
        return {"method": self.name, "model": Path(model).name, "weights": weights,
                "preset": self.storage.name, "settings": asdict(self.settings)}  # fmt: skip

    @property
    def storage(self) -> Storage:
        """How its descriptors are stored: the preset, or that of ``build_index`` without one."""
        return preset_named(self.preset) if self.preset else preset_for(self.settings)

    def check(self, search: Search, runtime: Runtime = DEFAULT_RUNTIME) -> None:
        """Raise ``UsageError`` if the database has too few photos, or the device is missing."""
        if runtime.on_gpu:
            open_device(runtime.device)
        resolved = resolve(self.model, self.settings, runtime)
        resolved.check_photos(self.settings, len(search.database))

    def index(
        self, search: Search, work: Path, runtime: Runtime, retriever: Retriever | None = None
    ) -> IndexSearcher:
        """Open the index of a search's database in the folder ``work``; build it if missing."""
        text = self.settings.to_json() + (retriever.fingerprint if retriever else "")
        text += self.storage.name
        path = work / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.placerec"
        return IndexSearcher.open(
            search, path, self.model, self.settings, runtime, retriever, self.storage.name
        )


@dataclass(frozen=True)
class Method:
    """``retrieval`` makes the shortlist, ``reranking`` (if any) orders its first ``candidates``.

    ``code``: the sha256 by file name of code that has no weights to identify it, such as a network
    of the user. ``one_index``: a baseline makes the shortlist as the retriever of the index of our
    method, as it is served; so its answers have a confidence.
    """

    retrieval: Own | Retriever
    reranking: Own | Reranker | None
    candidates: int
    code: Mapping[str, str] = field(default_factory=dict)
    one_index: bool = False

    @property
    def name(self) -> str:
        """The name in tables."""
        if self.reranking is None or self.reranking is self.retrieval:
            return self.retrieval.name
        return f"{self.retrieval.name} + {self.reranking.name}"

    @property
    def scorer(self) -> str | None:
        """What orders the candidates; ``None`` for retrieval only."""
        if isinstance(self.reranking, Own):
            return self.reranking.settings.scorer
        return self.reranking.name if self.reranking else None

    @property
    def no_confidence(self) -> str:
        """Why its answers have no confidence; empty if they have one in a calibrated index."""
        if isinstance(self.retrieval, Own) and self.reranking is self.retrieval:
            return no_confidence(self.retrieval.settings)
        if isinstance(self.reranking, Own) and self.one_index:
            return no_confidence(self.reranking.settings)
        return NOT_THE_DEFAULT

    def as_json(self) -> dict[str, Any]:
        """Return what a resumed run must have in common; this opens the weights of our methods."""
        both = self.reranking is self.retrieval
        retrieval = _record(self.retrieval)
        return {"name": self.name, "scorer": self.scorer,
                "candidates": self.candidates if self.reranking else 0,
                "retrieval": retrieval,
                "reranking": retrieval if both else _record(self.reranking),
                "code": dict(self.code)}  # fmt: skip

    def check(self, search: Search, runtime: Runtime = DEFAULT_RUNTIME) -> None:
        """Raise ``UsageError`` if one of our methods lacks photos, or its device."""
        for part in (self.retrieval, self.reranking):
            if isinstance(part, Own):
                part.check(search, runtime)

    def searcher(self, search: Search, work: Path, runtime: Runtime) -> Searcher:
        """Return what makes the shortlists of ``search``; it stores its work in ``work``."""
        if isinstance(self.retrieval, Own):
            return self.retrieval.index(search, work, runtime)
        if isinstance(self.reranking, Own) and self.one_index:
            return self.reranking.index(search, work, runtime, self.retrieval)
        return DescriptorSearcher.open(search, self.retrieval, work, runtime)

    def verifier(
        self, search: Search, work: Path, runtime: Runtime, searcher: Searcher | None = None
    ) -> Verifier | None:
        """Return what re-ranks the shortlists: the ``searcher`` itself if it does both."""
        both = self.one_index or self.reranking is self.retrieval
        if both and isinstance(searcher, IndexSearcher):
            return searcher
        if isinstance(self.reranking, Own):
            return self.reranking.index(search, work, runtime)
        if self.reranking is None:
            return None
        return LocalVerifier(self.reranking, search.database.paths, work, runtime.cores)


def own_method(
    name: str = "default", model: AnyModel = AUTO, settings: AnySettings | None = None
) -> Method:
    """Return one of our methods without a baseline."""
    model = str(model) if isinstance(model, Path) else model
    own = Own(name, model, settings or settings_for(model, name))
    return Method(own, own if own.settings.reranks else None, own.settings.candidates)


def named_method(
    name: str | None = None,
    rerank: str | None = None,
    *,
    model: AnyModel = AUTO,
    changes: Mapping[str, Any] | None = None,
    baseline: Mapping[str, Any] | None = None,
    torch_module: str | None = None,
    runtime: Runtime = DEFAULT_RUNTIME,
) -> Method:
    """Return the method ``name``, re-ranked by ``rerank``: a name, none, or its own re-ranking.

    ``changes`` are settings of our own methods, and the ``preset`` of their index. ``baseline`` are
    options of a baseline; the re-ranker takes those that it has. ``torch_module``
    (``baselines.torch_module``) makes the shortlist in place of a named method. With ``candidates``
    0 nothing is re-ranked. Raises ``UsageError`` for what cannot be combined, and for an option
    that would change nothing.
    """
    if name is not None and not isinstance(name, str):
        raise UsageError(f"method: {name!r:.100}; give a name, or what named_method returns")
    changes, options = dict(changes or {}), dict(baseline or {})
    preset = changes.pop("preset", None)
    model = str(model) if isinstance(model, Path) else model
    if name in RERANKERS:
        if rerank is not None:
            raise UsageError(f"method {name!r}: it re-ranks, as rerank {rerank!r} does; name one")
        name, rerank = None, name
    if rerank is not None:
        _check_reranker(rerank)
    if torch_module is None and rerank == (name or "default") and METHODS[rerank].reranks:
        rerank = None  # its own re-ranking
    if changes.get("candidates") == 0:
        rerank = NO_RERANKING
    second: Own | Reranker | None = None
    if rerank in RERANKERS:
        second = _make(RERANKERS[rerank], options, runtime)
    elif rerank not in (None, NO_RERANKING):
        second = _own(rerank, model, changes)
        if not second.settings.patch_sizes:
            raise UsageError(f"rerank {rerank!r}: it only retrieves; choose another method")
    first, code = _first(name, torch_module, options, model, changes, runtime)
    if options:
        raise UsageError(f"{_listed(options)}: not an option of this method; omit it")
    if rerank is None and isinstance(first, Own) and first.settings.reranks:
        second = first
    if isinstance(first, Own) and second is not first:  # its patches would never be used
        bare = first.settings.replace(patch_sizes=(), scale_weights=None, candidates=0)
        first = replace(first, settings=bare)
    candidates = changes.get("candidates", BASELINE_CANDIDATES)
    if isinstance(second, Own):
        candidates = second.settings.candidates
    one_index = isinstance(second, Own) and not isinstance(first, Own) and _is_trained(first)
    method = _stored(Method(first, second, candidates if second else 0, code, one_index), preset)
    on_device = torch_module or (name in RETRIEVERS and "runtime" in RETRIEVERS[name].options)
    _check_all_apply(method, model, changes, "cpu" if on_device else runtime.device)
    return method


def _stored(method: Method, preset: str | None) -> Method:
    """Return the method with the ``preset`` for the indexes of our own methods, if one is given."""
    first, second = method.retrieval, method.reranking
    if preset is None:
        return method
    require_choice("preset", preset)
    if not isinstance(first, Own) and not isinstance(second, Own):
        raise UsageError(f"preset: changes nothing of {method.name} here; omit it")
    one = replace(first, preset=preset) if isinstance(first, Own) else first
    two = replace(second, preset=preset) if isinstance(second, Own) else second
    return replace(method, retrieval=one, reranking=one if second is first else two)  # type: ignore[arg-type]


def _is_trained(retriever: Retriever) -> bool:
    """Whether a retriever that was just made needs no fit: an index can have it."""
    try:
        return bool(retriever.fingerprint)
    except UsageError:
        return False


def _check_reranker(rerank: str) -> None:
    if rerank in RETRIEVERS:
        raise UsageError(f"rerank {rerank!r}: it only retrieves; choose another method")
    choices = (NO_RERANKING, *METHODS, *RERANKERS)
    if rerank not in choices:
        raise UsageError(f"rerank {rerank!r}: choose one of {', '.join(choices)}")


def _first(
    name: str | None, torch_module: str | None, options: dict[str, Any], model: str | Trunk,
    changes: Mapping[str, Any], runtime: Runtime,
) -> tuple[Own | Retriever, dict[str, str]]:  # fmt: skip
    """Return what makes the shortlist, and the digests of its code."""
    if torch_module is not None:
        if name is not None:
            raise UsageError(
                f"method {name!r}: torch_module makes the shortlist; omit one of the two (rerank "
                f"names what orders it)"
            )
        from placerec.baselines.torch_module import GlobalModule, open_module

        network, size = open_module(torch_module, runtime)
        code = _code_digests(torch_module)
        if isinstance(network, GlobalModule):
            return network, code
        return Own("netvlad", network, METHODS["netvlad"].replace(image_size=size)), code
    if name in RETRIEVERS:
        return _make(RETRIEVERS[name], options, runtime), {}
    return _own(name, model, changes), {}


def _check_all_apply(
    method: Method, model: str | Trunk, changes: Mapping[str, Any], device: str
) -> None:
    """Refuse options that would change nothing."""
    parts = [part for part in (method.retrieval, method.reranking) if isinstance(part, Own)]
    own = [part for part in parts if part.model == model]  # not the trunk of ``torch_module``
    unused = set(changes)
    for part in own:
        settings = part.settings
        used = {name for name in changes if not settings.why_unused(name)}
        if part is not method.reranking:
            fixed = settings.group("global", "model")
            used = {name for name in used if settings.aliases.get(name, name) in fixed}
        unused -= used
    if method.reranking is not None or changes.get("candidates") == 0:
        unused.discard("candidates")
    if not own:
        unused |= {"model"} if model != AUTO else set()
        unused |= {"device"} if device != "cpu" else set()
    if unused:
        raise UsageError(f"{_listed(unused)}: changes nothing of {method.name} here; omit it")


def _listed(names: set[str] | dict[str, Any]) -> str:
    return ", ".join(sorted(names))


def _make(entry: Baseline[Made], options: dict[str, Any], runtime: Runtime) -> Made:
    """Return the baseline with the ``options`` that it has; they are removed."""
    taken = {key: options.pop(key) for key in entry.options if key in options}
    if "threads" in entry.options:
        taken["threads"] = runtime.cores
    if "runtime" in entry.options:
        taken["runtime"] = runtime
    return entry.make(**taken)


def _own(name: str | None, model: str | Trunk, changes: Mapping[str, Any]) -> Own:
    if name is not None and name not in METHODS:
        choices = ", ".join((*METHODS, *RETRIEVERS, *RERANKERS))
        raise UsageError(f"method {name!r}: choose one of {choices}")
    return Own(name or "default", model, settings_for(model, name, **changes))


def _record(part: Own | Retriever | Reranker | None) -> dict[str, Any] | None:
    if part is None:
        return None
    if isinstance(part, Own):
        return part.record
    record = {"method": part.name, **(part.record if isinstance(part, Recorded) else {})}
    with suppress(UsageError):  # a fit that does not exist yet
        record["fingerprint"] = part.fingerprint
    return record


def _code_digests(spec: str) -> dict[str, str]:
    """Return the sha256 (hex) by name of the file behind ``torch_module``, already imported."""
    is_file = spec.lower().endswith(".onnx")
    path = spec if is_file else getattr(sys.modules[spec.partition(":")[0]], "__file__", None)
    return {Path(path).name: file_sha256(Path(path))} if path else {}
