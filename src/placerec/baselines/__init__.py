"""The methods that placerec is compared with: one file each, one line each in the two registries.

``contract`` says what a baseline is. A retriever turns a photo into one descriptor, a re-ranker
scores a query against candidates; ``placerec evaluate`` combines any of the former (and our own)
with any of the latter. Adding one is a file here and a line below (docs/BASELINES.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from placerec.baselines.ap_gem import ap_gem
from placerec.baselines.contract import Reranker, Retriever
from placerec.baselines.densevlad import DenseVlad
from placerec.baselines.lightglue import aliked_lightglue, disk_lightglue
from placerec.baselines.superglue import superpoint_superglue
from placerec.baselines.vlad import Vlad
from placerec.baselines.xfeat import xfeat

Made = TypeVar("Made", bound=Retriever | Reranker)


@dataclass(frozen=True, slots=True)
class Baseline(Generic[Made]):
    """How one is made, and the options of ``evaluate`` that it takes."""

    make: Callable[..., Made]
    options: tuple[str, ...]


KEYPOINTS = ("keypoints", "longer_side", "threads")

RETRIEVERS: dict[str, Baseline[Retriever]] = {
    "vlad": Baseline(Vlad, ("weights", "threads")),
    "densevlad": Baseline(DenseVlad, ("weights", "threads")),
    "ap-gem": Baseline(ap_gem, ("longer_side", "weights")),
}
RERANKERS: dict[str, Baseline[Reranker]] = {
    "aliked-lightglue": Baseline(aliked_lightglue, KEYPOINTS),
    "disk-lightglue": Baseline(disk_lightglue, KEYPOINTS),
    "xfeat": Baseline(xfeat, KEYPOINTS),
    "superpoint-superglue": Baseline(superpoint_superglue, (*KEYPOINTS, "weights")),
}
