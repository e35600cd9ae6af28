"""K_patch: the number of clusters of a patch descriptor (ours): recall, milliseconds, bytes.

The default method (size 2, 64 dimensions, displacement) with 1, 4, 16 and 64 clusters per patch.
Descriptors are float32 here; the bytes are those that an index stores.
"""

from __future__ import annotations

from placerec.index.codec import encode_patches, encode_vector
from placerec.models.model import Model
from placerec.reproduce.folder import Row, TextRow
from placerec.reproduce.plots import Axes, bars
from placerec.reproduce.study import Study
from placerec.reproduce.table import RECALLS, Table, cell, verdicts
from placerec.reproduce.timing import query_times
from placerec.settings import METHODS

CLUSTERS = (1, 4, 16, 64)
DEFAULT = METHODS["default"]

NOTE = (
    "The milliseconds are the time to describe one query and to match and score its candidates, "
    "without the trunk, best of 3; they depend on the machine's load."
)


def rows(study: Study) -> list[Row]:
    """The default's retrieval, then its re-ranking with each number of clusters."""
    variant = (DEFAULT.patch_sizes, DEFAULT.pca_dim, DEFAULT.scorer)
    table: list[Row] = []
    for clusters in CLUSTERS:
        model = study.fitted(DEFAULT.replace(k_patch=clusters))
        study.remember(model, f" {clusters}")
        matches = study.matches([variant], model)
        if not table:
            size = _bytes(model, study, patches=False)
            table.append(study.row(matches.lists, method="retrieval", bytes=size))
        (times,) = query_times(study, model, matches.lists[0], [variant])
        table.append(study.row(
            matches.orders(*variant), method="re-ranked", k_patch=clusters, scorer=DEFAULT.scorer,
            dim=DEFAULT.pca_dim, **times, total_ms=sum(times.values()), bytes=_bytes(model, study),
        ))  # fmt: skip
    return table


def _bytes(model: Model, study: Study, patches: bool = True) -> int:
    """Bytes per database photo in an index."""
    features = model.describe_map(study.database_maps[0])
    size = len(encode_vector(features.global_descriptor, b""))
    return size + sum(len(encode_patches(p, b"")) for p in features.patches if patches)


def notes(written: list[TextRow]) -> list[str]:
    """Check whether more clusters increase the recall."""
    reranked = [row for row in written if row["k_patch"]]
    single = cell(k_patch="1")
    claims = [
        (f"K_patch {clusters} above K_patch 1 (recall@1)", cell(k_patch=str(clusters)), single)
        for clusters in CLUSTERS[1:]
    ]
    return [NOTE, *verdicts(reranked, claims)]


def panel(axes: Axes, rows: list[TextRow]) -> None:
    """recall@1 and @5 of retrieval and of each number of clusters."""
    series = {name: [float(row[name]) for row in rows] for name in ("recall@1", "recall@5")}
    bars(axes, [row["k_patch"] or "retrieval" for row in rows], series,
         "K_patch (clusters per patch descriptor)", "recall (share of queries)")  # fmt: skip


TABLE = Table(
    ("method", "k_patch", "scorer", "dim", *RECALLS, "describe_ms", "match_ms", "verify_ms",
     "total_ms", "bytes"),
    rows, notes, panel, DEFAULT.patch_sizes, model="efficientnet-lite0", published=False,
)  # fmt: skip
