"""K_patch: how many clusters a patch descriptor needs (ours): recall, milliseconds, bytes.

Our default's global descriptor and patches (size 2, 64 dimensions, displacement), with 1, 4, 16
and 64 clusters a patch. Descriptors are float32 here; the bytes are those an index stores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from placerec.index.codec import encode_patches, encode_vector
from placerec.models.model import Model
from placerec.reproduce.claims import cell, verdict
from placerec.reproduce.folder import Row, digest
from placerec.reproduce.plots import TextRow, recall_limits, style
from placerec.reproduce.study import Study
from placerec.reproduce.table import RECALLS, Table
from placerec.reproduce.timing import Stopwatch
from placerec.settings import METHODS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CLUSTERS = (1, 4, 16, 64)
DEFAULT = METHODS["default"]

NOTE = (
    "Milliseconds are of describing one query, matching and scoring its candidates, without the "
    "trunk, the best of 3; they vary with the machine's load."
)


def rows(study: Study) -> list[Row]:
    """The default's retrieval, then re-ranked with each number of clusters."""
    found: list[Row] = []
    for clusters in CLUSTERS:
        model = study.fitted(DEFAULT.replace(k_patch=clusters))
        study.remember(model, f" {clusters}")
        kind = (DEFAULT.patch_sizes[0], DEFAULT.pca_dim)
        scores = study.matches(model, study.query_maps, [kind], digest(study.query_maps.sha256))
        if not found:
            size = _bytes(model, study, patches=False)
            found = [study.row(study.ranked(scores.lists), method="retrieval", bytes=size)]
        orders = scores.orders(DEFAULT.scorer, DEFAULT.patch_sizes, kind[1])
        watch = Stopwatch(study, model, scores.lists[0], DEFAULT.patch_sizes, [kind[1]])
        spent = {
            "describe_ms": watch.describe_ms(DEFAULT.patch_sizes, kind[1]),
            **watch.spent(DEFAULT.patch_sizes, kind[1], DEFAULT.scorer),
        }
        found.append(study.row(
            study.ranked(orders), method="re-ranked", k_patch=clusters, scorer=DEFAULT.scorer,
            dim=kind[1], **spent, total_ms=sum(spent.values()), bytes=_bytes(model, study),
        ))  # fmt: skip
    return found


def _bytes(model: Model, study: Study, patches: bool = True) -> int:
    """Bytes of a database photo as an index stores it."""
    features = model.describe_map(study.database_maps[0])
    size = len(encode_vector(features.global_descriptor, b""))
    return size + sum(len(encode_patches(p, b"")) for p in features.patches if patches)


def notes(written: list[TextRow]) -> list[str]:
    """Whether more clusters pay."""
    ours = [row for row in written if row["k_patch"]]
    answers = [NOTE]
    for clusters in CLUSTERS[1:]:
        told = f"K_patch {clusters} above K_patch 1 (recall@1)"
        answers.append(verdict(told, ours, cell(k_patch=str(clusters)), cell(k_patch="1")))
    return answers


def panel(axes: Axes, mine: list[TextRow]) -> None:
    """recall@1 and @5 against the number of clusters; retrieval dashed."""
    retrieval, *ours = mine
    values = []
    for number, at in enumerate((1, 5)):
        look = style(number)
        y = [float(row[f"recall@{at}"]) for row in ours]
        base = float(retrieval[f"recall@{at}"])
        axes.plot([int(row["k_patch"]) for row in ours], y, label=f"recall@{at}", **look)  # type: ignore[arg-type]
        axes.axhline(base, color=look["color"], linestyle="--", label=f"recall@{at}, retrieval")
        values += [*y, base]
    axes.set_xscale("log", base=2)
    axes.set_xticks(CLUSTERS, [str(clusters) for clusters in CLUSTERS])
    recall_limits(axes, values)
    axes.set_xlabel("K_patch (clusters a patch descriptor)")
    axes.set_ylabel("recall (share of queries)")


TABLE = Table(
    ("method", "k_patch", "scorer", "dim", *RECALLS, "describe_ms", "match_ms", "verify_ms",
     "total_ms", "bytes"),
    rows, notes, panel, DEFAULT.patch_sizes, model="efficientnet-lite0", published=False,
)  # fmt: skip
