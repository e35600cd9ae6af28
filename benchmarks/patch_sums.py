"""Measure the noise that the published float32 integral image adds to patch descriptors.

    python benchmarks/patch_sums.py GOLDEN_FOLDER

The input is two photos of one building and seeded weights (GOLDEN_FOLDER/README.md). The patches of
photo q1 are computed with direct and with integral sums. Both are compared with float64:
1 - cosine of each patch before PCA, and the mutual matches with photo db2 after PCA. The table also
has the recorded numbers of the published program. The assignment weights have length 10 (mild), 100
and 300 (sharp; the published initialisation gives 222 on the seeded example). This takes half a
minute. Writes results/patch_sums.csv and the table in docs/METHOD.md.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from table import ROOT, append_rows, page_table, read_rows, write_page

from placerec.method.matching import mutual_nearest
from placerec.method.patches import patch_vlad
from placerec.method.pca import Projection
from placerec.method.vlad import Vocabulary, normalise, soft_assign
from placerec.photos.decode import decode
from placerec.records import Array, PatchSet
from placerec.settings import CHOICES
from placerec.trunks import feature_map
from placerec.trunks.vgg16 import VGG16
from placerec.workers import single_threaded_blas

sys.path.insert(0, str(ROOT / "tests" / "golden"))
from recipe import MILD, SIZES, seeded_weights

RESULTS = ROOT / "results" / "patch_sums.csv"
PAGE = ROOT / "docs" / "METHOD.md"
SCALES = (MILD, 100.0, 300.0)
COLUMNS = ("assignment_scale", "patch_size", "sums", "worst", "median", "matches", "exact_matches",
           "in_common", "published_worst", "published_in_common")  # fmt: skip


def exact_vlad(features: Array, vocabulary: Vocabulary, size: int) -> Array:
    """Return the values (P, K * D) float64 of every patch; window means are in float64."""
    depth = features.shape[2]
    unit = normalise(features.astype(np.float64))
    assignment = soft_assign(unit.reshape(-1, depth), vocabulary).reshape(*unit.shape[:2], -1)
    parts = []
    for k, centre in enumerate(vocabulary.centres.astype(np.float64)):
        residual = assignment[:, :, k, None] * (unit - centre)
        windows = np.lib.stride_tricks.sliding_window_view(residual, (size, size), axis=(0, 1))
        parts.append(normalise(windows.mean(axis=(3, 4)).reshape(-1, depth)))
    return normalise(np.concatenate(parts, axis=1))


def project(patches: PatchSet, values: Array, pca: Projection) -> PatchSet:
    """Return the patch set of ``values`` (P, K * D) after the PCA, in float64."""
    projected = values.astype(np.float64) @ pca.weight.astype(np.float64).T + pca.bias
    return PatchSet(patches.grid, normalise(projected))


def rows(golden: Path) -> Iterator[dict[str, object]]:
    """Yield the rows of the table, the mild assignment first."""
    state, _, pca = seeded_weights()
    with np.load(golden / "q1.npz") as file:
        query = np.ascontiguousarray(file["encoder"].transpose(1, 2, 0))
    photo = decode(golden / "photos" / "db2.png")
    database = feature_map(VGG16(state, "seeded"), photo.pixels, (480, 640))
    report = json.loads((golden / "precision_report.json").read_text(encoding="utf-8"))
    for scale in SCALES:
        _, vocabulary, _ = seeded_weights(scale)
        published = report["sharper_assignment_q1"][f"assignment_scale_{scale:.0f}"]
        for size in SIZES:
            yield from rows_of_size(query, database, vocabulary, pca, size, scale, published)


def rows_of_size(
    query: Array, database: Array, vocabulary: Vocabulary, pca: Projection, size: int,
    scale: float, published: dict[str, dict[str, dict[str, float]]],
) -> Iterator[dict[str, object]]:  # fmt: skip
    """Yield a row for direct and for integral sums of one patch size, from float32 features."""
    maps = query, database
    exact = [exact_vlad(features, vocabulary, size) for features in maps]
    for sums in CHOICES["patch_sums"]:
        patches = [patch_vlad(normalise(features), vocabulary, None, (size, size), sums=sums)
                   for features in maps]  # fmt: skip
        values = normalise(patches[0].descriptors.astype(np.float64))
        noise = 1.0 - np.einsum("pd,pd->p", values, exact[0])
        ours = mutual_nearest(*(project(side, side.descriptors, pca) for side in patches)).pairs
        true = mutual_nearest(*(project(*pair, pca) for pair in zip(patches, exact, strict=True)))
        both = set(map(tuple, ours.tolist())) & set(map(tuple, true.pairs.tolist()))
        direct = sums == "direct"
        worst = (
            published["alternatives"][f"p{size}"]["direct_float32_box_1_minus_cos_max"]
            if direct else published[f"p{size}"]["vlad_1_minus_cos_max"]
        )  # fmt: skip
        common = "" if direct else int(published["matches"][f"q1-db2-p{size}"]["common"])
        yield {
            "assignment_scale": f"{scale:.0f}", "patch_size": size, "sums": sums,
            "worst": f"{noise.max():.2e}", "median": f"{np.median(noise):.2e}",
            "matches": len(ours), "exact_matches": len(true.pairs), "in_common": len(both),
            "published_worst": f"{worst:.2e}", "published_in_common": common,
        }  # fmt: skip


def markdown(rows: list[dict[str, str]]) -> str:
    """Return the table of docs/METHOD.md."""
    head = ("assignment", "p", "sums", "1 - cos, worst", "1 - cos, median", "matches",
            "in float64", "in common", "recorded: worst", "recorded: in common")  # fmt: skip
    return page_table(head, ([row[name] for name in COLUMNS] for row in rows))


def main() -> None:
    with single_threaded_blas():
        table = list(rows(Path(sys.argv[1])))
    RESULTS.unlink(missing_ok=True)
    append_rows(RESULTS, COLUMNS, table)
    write_page(PAGE, "patch_sums", markdown(read_rows(RESULTS)))


if __name__ == "__main__":
    main()
