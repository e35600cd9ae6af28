"""What more rounds of k-means change: placerec has at most 25, the published program 100.

    python benchmarks/kmeans.py PHOTOS_FOLDER

It fits 16 and 64 clusters on 20,000 VGG16 features of 200 photos (a seeded choice), from the same
start, with at most 25, 100 and 300 rounds. It runs for about eight minutes.

Writes results/kmeans.csv and the table in docs/METHOD.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from patch_sums import feature_map
from table import ROOT, append_rows, page_table, read_rows, write_page

from placerec.method.vlad import KMEANS_ITERATIONS, assignment_sharpness, kmeans, normalise
from placerec.photos.find import find_photos
from placerec.records import Array
from placerec.trunks import open_trunk
from placerec.workers import single_threaded_blas

RESULTS = ROOT / "results" / "kmeans.csv"
PAGE = ROOT / "docs" / "METHOD.md"
PHOTOS, FEATURES_PER_PHOTO, SEED = 200, 100, 0
CLUSTERS = (16, 64)
ROUNDS = (KMEANS_ITERATIONS, 100, 300)
COLUMNS = ("clusters", "rounds", "mean_squared_distance", "alpha", "same_cluster_as_last")


def features(folder: Path) -> Array:
    """Return unit features (20000, 512) float32 of a seeded choice of photos."""
    rng = np.random.default_rng(SEED)
    names = find_photos(folder)
    trunk = open_trunk("vgg16")
    chosen = []
    for number in sorted(rng.choice(len(names), PHOTOS, replace=False).tolist()):
        rows = normalise(feature_map(trunk, folder / names[number]))
        rows = rows.reshape(-1, rows.shape[-1])
        chosen.append(rows[rng.choice(len(rows), FEATURES_PER_PHOTO, replace=False)])
    return np.concatenate(chosen)


def rows(samples: Array) -> Iterator[dict[str, object]]:
    """Yield one row per number of clusters and of rounds."""
    for clusters in CLUSTERS:
        fits = {rounds: kmeans(samples, clusters, SEED, rounds) for rounds in ROUNDS}
        distances = {rounds: _distances(samples, centres) for rounds, centres in fits.items()}
        last = distances[ROUNDS[-1]].argmin(axis=1)
        for rounds, centres in fits.items():
            same = np.mean(distances[rounds].argmin(axis=1) == last)
            yield {
                "clusters": clusters, "rounds": rounds,
                "mean_squared_distance": f"{distances[rounds].min(axis=1).mean():.5f}",
                "alpha": f"{assignment_sharpness(samples, centres):.1f}",
                "same_cluster_as_last": f"{same:.3f}",
            }  # fmt: skip


def _distances(samples: Array, centres: Array) -> Array:
    """Return squared distances (N, K) float64."""
    samples, centres = samples.astype(np.float64), centres.astype(np.float64)
    squares = (samples**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1)
    distances: Array = np.maximum(squares - 2.0 * samples @ centres.T, 0.0)
    return distances


def markdown(rows: list[dict[str, str]]) -> str:
    """Return the table of docs/METHOD.md."""
    head = ("K", "rounds at most", "mean squared distance to the nearest centre", "alpha",
            f"features in the same cluster as after {ROUNDS[-1]}")  # fmt: skip
    return page_table(head, ([row[name] for name in COLUMNS] for row in rows))


def main() -> None:
    with single_threaded_blas():
        measured = list(rows(features(Path(sys.argv[1]))))
    RESULTS.unlink(missing_ok=True)
    append_rows(RESULTS, COLUMNS, measured)
    write_page(PAGE, "kmeans", markdown(read_rows(RESULTS)))


if __name__ == "__main__":
    main()
