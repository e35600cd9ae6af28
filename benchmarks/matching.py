"""Compare our trunk, matching and scoring of 100 candidates with the published operations.

    python benchmarks/matching.py GOLDEN_FOLDER

Both run in turn in one process, on 2 threads, with the same descriptors: those of real photos by
VGG16 with a seeded vocabulary and PCA (the time does not depend on the training of the weights).
The published operations are PyTorch's: one matrix product on all threads, distances with a square
root, two arg-mins; then OpenCV's homography or the spatial score, one candidate after the other.
Ours is ``recognise.rerank``. The trunk is VGG16 on one photo, ONNX Runtime against PyTorch.
Writes results/matching.csv and the table in docs/REPRODUCE.md.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from table import ROOT, append_rows, page_table, read_rows, write_page

from placerec.method.matching import Matched
from placerec.method.pca import Projection
from placerec.method.ransac import ransac_score
from placerec.method.scores import match_candidates, score_matches
from placerec.method.spatial import spatial_score
from placerec.method.vlad import Vocabulary, normalise
from placerec.models.model import Fitted, Model
from placerec.records import PatchSet
from placerec.runtime import Runtime
from placerec.settings import METHODS
from placerec.trunks import open_trunk
from placerec.trunks.vgg16 import VGG16, vgg16_module
from placerec.workers import single_threaded_blas

RESULTS = ROOT / "results" / "matching.csv"
PAGE = ROOT / "docs" / "REPRODUCE.md"
COLUMNS = ("work", "ours_s", "published_form_s", "ratio")
THREADS, CANDIDATES, REPEATS, CLUSTERS = 2, 100, 3, 16
SIZES = {"5": ((5, 5),), "2,5,8": ((2, 2), (5, 5), (8, 8))}
WORK = ((128, "5", "spatial"), (512, "5", "spatial"), (512, "2,5,8", "ransac"),
        (4096, "2,5,8", "ransac"))  # fmt: skip
SCORE = {"spatial": spatial_score, "ransac": ransac_score}


def seeded_model(dimensions: int) -> Model:
    draw = np.random.default_rng(0).standard_normal
    centres = normalise(draw((CLUSTERS, 512))).astype(np.float32)
    weight = (draw((dimensions, CLUSTERS * 512)) / np.sqrt(CLUSTERS * 512)).astype(np.float32)
    projection = Projection(weight, np.zeros(dimensions, np.float32))
    settings = METHODS["paper-performance"].replace(global_dim=dimensions, fusion="raw")
    vocabulary = Vocabulary(0.8 * centres, 30 * centres)
    trunk = open_trunk("vgg16", Runtime(threads=THREADS))
    return Model("seeded", trunk, Fitted.shared(vocabulary, projection), settings)


def published(query: PatchSet, database: PatchSet) -> Matched:
    """Return the mutual nearest neighbours, computed as in the published program."""
    similarity = torch.from_numpy(query.descriptors) @ torch.from_numpy(database.descriptors).T
    distance = torch.sqrt(2.0 - 2.0 * similarity + 1e-9)
    forward, backward = distance.argmin(dim=0), distance.argmin(dim=1)
    mutual = torch.nonzero(backward[forward] == torch.arange(len(forward)))[:, 0]
    pairs = torch.stack((forward[mutual], mutual), dim=1).numpy()
    empty = np.empty(0, np.float32)
    return Matched(query.grid, database.grid, pairs, empty, empty)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(dimensions: int, label: str, scorer: str, maps: list[np.ndarray]) -> dict[str, object]:
    """Time matching and scoring of the first map with the others, which are repeated."""
    model = seeded_model(dimensions)
    settings = model.settings.replace(patch_sizes=SIZES[label], scale_weights=None, scorer=scorer)
    model = model.with_settings(settings)
    query, *database = [model.describe_map(features, 1).patches for features in maps]
    count = CANDIDATES if dimensions < 4096 else 20
    candidates = [database[n % len(database)] for n in range(count)]

    def ours() -> None:
        with single_threaded_blas():
            score_matches(match_candidates(query, candidates, THREADS), settings, THREADS)

    def published_form() -> None:
        for candidate in candidates:
            for pair in zip(query, candidate, strict=True):
                SCORE[scorer](published(*pair))

    work = f"{dimensions}-d, sizes {label}, {scorer}, 100 candidates"
    return in_turn(work, ours, published_form, CANDIDATES / count)


def measure_trunk(image: np.ndarray) -> dict[str, object]:
    """Time VGG16 on one photo at 480 x 640."""
    trunk = VGG16.from_cache(Runtime(threads=THREADS))
    module = vgg16_module(trunk.state)
    torch.set_num_threads(THREADS)

    def published_form() -> None:
        with torch.inference_mode():
            module(torch.from_numpy(image))

    return in_turn("VGG16 trunk, one photo", lambda: trunk(image), published_form)


def in_turn(
    work: str, ours: Callable[[], object], published_form: Callable[[], object], scale: float = 1.0
) -> dict[str, object]:
    """Return a row: the fastest of three runs of each, run in turn."""
    runs = [(seconds(ours), seconds(published_form)) for _ in range(REPEATS)]
    ours_s, published_s = (scale * min(times) for times in zip(*runs, strict=True))
    return {"work": work, "ours_s": f"{ours_s:.2f}", "published_form_s": f"{published_s:.2f}",
            "ratio": f"{ours_s / published_s:.2f}"}  # fmt: skip


def markdown(rows: list[dict[str, str]]) -> str:
    head = ("work", "ours, s", "published operations, s", "ratio")
    return page_table(head, ([row[name] for name in COLUMNS] for row in rows))


def main() -> None:
    torch.set_num_threads(THREADS)
    model = seeded_model(1)
    photos = sorted((Path(sys.argv[1]) / "photos").glob("*.png"), key=lambda p: p.name != "q1.png")
    maps = [model.feature_map(model.read(photo).pixels) for photo in photos]
    torch.set_num_threads(THREADS)
    RESULTS.unlink(missing_ok=True)
    append_rows(RESULTS, COLUMNS, [measure_trunk(np.zeros((1, 3, 480, 640), np.float32))])
    for work in WORK:
        append_rows(RESULTS, COLUMNS, [measure(*work, maps)])
        print(work, "done", flush=True)
    write_page(PAGE, "matching", markdown(read_rows(RESULTS)))


if __name__ == "__main__":
    main()
