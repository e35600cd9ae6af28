"""The methods that placerec is compared with, in two registries.

``contract`` defines what a baseline is. A retriever turns a photo into one descriptor. A re-ranker
scores a query against candidates. ``placerec evaluate`` combines any retriever, or one of our own
methods, with any re-ranker. A new baseline is one file in this folder and one line in a registry
(docs/BASELINES.md). A baseline is imported only when it is used, so the names cost no time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from placerec.baselines.contract import Reranker, Retriever

Made = TypeVar("Made", bound="Retriever | Reranker")
Converter = Callable[[Path, Path], str]


@dataclass(frozen=True, slots=True)
class Baseline(Generic[Made]):
    """How a baseline is made, and which options of ``evaluate`` it takes.

    ``convert`` writes its weights from a source file to a path and returns the sha256 (hex) of the
    written file. ``None`` means that the baseline has no converter. In the cache folder this file
    has the name of the baseline and ``ending``.
    """

    make: Callable[..., Made]
    options: tuple[str, ...]
    convert: Converter | None = None
    ending: str = ".safetensors"


def _lazy(module: str, function: str, *first: Any) -> Callable[..., Any]:
    """Return a function of a module of this folder, which is imported at the first call."""

    def call(*arguments: Any, **options: Any) -> Any:
        imported = import_module(f"placerec.baselines.{module}")
        return getattr(imported, function)(*first, *arguments, **options)

    return call


def _lightglue(name: str) -> Baseline[Reranker]:
    return Baseline(
        _lazy("lightglue", "lightglue", name), KEYPOINTS, _lazy("weights", "convert", name)
    )


KEYPOINTS = ("keypoints", "longer_side", "threads")

RETRIEVERS: dict[str, Baseline[Retriever]] = {
    "vlad": Baseline(_lazy("vlad", "Vlad"), ("weights", "threads")),
    "densevlad": Baseline(_lazy("vlad", "DenseVlad"), ("weights", "threads")),
    "ap-gem": Baseline(
        _lazy("ap_gem", "ApGem"), ("longer_side", "weights"), _lazy("ap_gem_checkpoint", "convert")
    ),
    "megaloc": Baseline(
        _lazy("megaloc", "MegaLoc"), ("weights", "runtime"), _lazy("megaloc_graph", "convert"),
        ".onnx",
    ),
}  # fmt: skip
RERANKERS: dict[str, Baseline[Reranker]] = {
    "aliked-lightglue": _lightglue("aliked-lightglue"),
    "disk-lightglue": _lightglue("disk-lightglue"),
    "xfeat": _lightglue("xfeat"),
    "superpoint-superglue": Baseline(
        _lazy("superglue", "superpoint_superglue"), (*KEYPOINTS, "weights")
    ),
}
CONVERTERS: dict[str, Converter] = {
    name: entry.convert for name, entry in (RETRIEVERS | RERANKERS).items() if entry.convert
}
