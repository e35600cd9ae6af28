"""What the rounds of k-means that we do without would change: ours are 25, the published are 100.

    python benchmarks/kmeans.py PHOTOS_FOLDER

Takes 20,000 VGG16 features of 200 photos, a seeded choice, and fits 16 and 64 clusters from one
start with 25, 100 and 300 rounds at most. Takes about eight minutes.

Writes results/kmeans.csv and the table in docs/METHOD.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from patch_sums import feature_map
from table import ROOT, append_rows, read_rows, write_page

from placerec.method.vlad import KMEANS_ITERATIONS, assignment_sharpness, kmeans, normalise
from placerec.photos.find import find_photos
from placerec.records import Array
from placerec.trunks import open_trunk
from placerec.workers import single_threaded_blas

RESULTS = ROOT / "results" / "kmeans.csv"
PAGE = ROOT / "docs" / "METHOD.md"
PHOTOS, FEATURES_A_PHOTO, SEED = 200, 100, 0
CLUSTERS = (16, 64)
ROUNDS = (KMEANS_ITERATIONS, 100, 300)
COLUMNS = ("clusters", "rounds", "mean_squared_distance", "alpha", "same_cluster_as_last")


def features(folder: Path) -> Array:
    """Unit features (20000, 512) float32 of a seeded choice of photos."""
    rng = np.random.default_rng(SEED)
    names = find_photos(folder)
    trunk = open_trunk("vgg16")
    chosen = []
    for number in sorted(rng.choice(len(names), PHOTOS, replace=False).tolist()):
        rows = normalise(feature_map(trunk, folder / names[number]))
        rows = rows.reshape(-1, rows.shape[-1])
        chosen.append(rows[rng.choice(len(rows), FEATURES_A_PHOTO, replace=False)])
    return np.concatenate(chosen)


def rows(samples: Array) -> Iterator[dict[str, object]]:
    """A row for each number of clusters and of rounds."""
    for clusters in CLUSTERS:
        found = {rounds: kmeans(samples, clusters, SEED, rounds) for rounds in ROUNDS}
        near = {rounds: _distances(samples, centres) for rounds, centres in found.items()}
        last = near[ROUNDS[-1]].argmin(axis=1)
        for rounds, centres in found.items():
            same = np.mean(near[rounds].argmin(axis=1) == last)
            yield {
                "clusters": clusters, "rounds": rounds,
                "mean_squared_distance": f"{near[rounds].min(axis=1).mean():.5f}",
                "alpha": f"{assignment_sharpness(samples, centres):.1f}",
                "same_cluster_as_last": f"{same:.3f}",
            }  # fmt: skip


def _distances(samples: Array, centres: Array) -> Array:
    """Squared distances (N, K) float64."""
    samples, centres = samples.astype(np.float64), centres.astype(np.float64)
    squares = (samples**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1)
    distances: Array = np.maximum(squares - 2.0 * samples @ centres.T, 0.0)
    return distances


def markdown(rows: list[dict[str, str]]) -> str:
    """The table as it stands in docs/METHOD.md."""
    head = ("K", "rounds at most", "mean squared distance to the nearest centre", "alpha",
            f"features in the same cluster as after {ROUNDS[-1]}")  # fmt: skip
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    lines += [" | ".join(row[name] for name in COLUMNS) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def main() -> None:
    with single_threaded_blas():
        found = list(rows(features(Path(sys.argv[1]))))
    RESULTS.unlink(missing_ok=True)
    append_rows(RESULTS, COLUMNS, found)
    write_page(PAGE, "kmeans", markdown(read_rows(RESULTS)))


if __name__ == "__main__":
    main()
