"""Reduce the golden numbers of the published program to less than 100 kB.

    python tests/golden/make.py GOLDEN_FOLDER

Writes golden.npz and golden.json next to this script. README.md describes their content.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from recipe import SIZES

HERE = Path(__file__).parent
QUERIES, CANDIDATES = ("q1", "q2"), ("db1", "db2", "db3", "db4")
OPENCV = "5.0.0.93"
SUBSET, SUBSET_SIZE, SUBSET_SEED = 60, 5, 0
RANGES = ("long_run_range", "range_over_all_versions_and_20_shuffles")


def report_of(golden: Path, name: str) -> Any:
    return json.loads((golden / f"{name}.json").read_text(encoding="utf-8"))


def arrays(golden: Path) -> dict[str, np.ndarray]:
    """Return the matches of all pairs (int16), and a few descriptors with their matches."""
    named = {}
    with np.load(golden / "mutual_matches_all_pairs.npz") as file:
        for query in QUERIES:
            for name in CANDIDATES:
                for size in SIZES:
                    key = f"{query}-{name}-p{size}"
                    named[key] = file[key].astype(np.int16)
    rng = np.random.default_rng(SUBSET_SEED)
    for name in ("q1", "db2"):
        with np.load(golden / f"{name}.npz") as file:
            patches = file[f"patch{SUBSET_SIZE}_pca"].T
        chosen = np.sort(rng.choice(len(patches), SUBSET, replace=False))
        named[f"subset_{name}"] = np.ascontiguousarray(patches[chosen])
    named["subset_matches"] = plain_matches(named["subset_q1"], named["subset_db2"])
    return named


def plain_matches(query: np.ndarray, database: np.ndarray) -> np.ndarray:
    """Return mutual nearest neighbours from a plain loop in float64: (M, 2) int16."""
    pairs = []
    for j, patch in enumerate(database.astype(np.float64)):
        cosines = [float(row.astype(np.float64) @ patch) for row in query]
        i = int(np.argmax(cosines))
        back = [float(row.astype(np.float64) @ query[i].astype(np.float64)) for row in database]
        if int(np.argmax(back)) == j:
            pairs.append((i, j))
    return np.array(pairs, np.int16)


def pair_of(pair: str, scores: Any, ransac: Any) -> dict[str, Any]:
    """Return the scores of a pair per patch size, in the program's sign: smaller is better."""
    by_size = {}
    for size, pair_scores in scores["per_patch_size"].items():
        counts = [*ransac[RANGES[0]]["inliers"][pair][size], *ransac[RANGES[1]][pair][size]]
        counts += [inliers[pair][size] for inliers in ransac["by_version"].values()]
        by_size[size] = {
            "spatial": {"program": pair_scores["spatial_score"],
                        "paper": pair_scores["spatial_paper_readings"]["abs_of_max"],
                        "paper-absolute": pair_scores["spatial_paper_readings"]["max_of_abs"]},
            "inliers": pair_scores["ransac"][OPENCV]["inliers"],
            "inliers_range": [min(counts), max(counts)],
        }  # fmt: skip
    return by_size


def numbers(golden: Path) -> dict[str, Any]:
    """Return scores, fused scores and orders, and the numbers of the training."""
    scores, ransac = (
        report_of(golden, "matches_and_scores"),
        report_of(golden, "ransac_inliers_by_opencv"),
    )
    bits = report_of(golden, "training_bits")
    del bits["alpha_init"][
        "netvlad_of_q1_encoder_first8"
    ]  # needs the complete output of the encoder
    fused = {}
    for query in QUERIES:
        reranking = scores["reranking"][query]
        fused[query] = {"spatial": reranking["spatial"], "ransac": reranking["ransac"][OPENCV]}
    pairs = [f"{query}-{name}" for query in QUERIES for name in CANDIDATES]
    return {
        "opencv": OPENCV, "candidates": CANDIDATES, "weights": scores["conventions"]["weights"],
        "grids": {str(size): [31 - size, 41 - size] for size in SIZES},
        "pairs": {pair: pair_of(pair, scores["pairs"][pair], ransac) for pair in pairs},
        "fused": fused, "weights_check": report_of(golden, "weights_check"), "training_bits": bits,
    }  # fmt: skip


def main() -> None:
    golden = Path(sys.argv[1])
    np.savez_compressed(HERE / "golden.npz", **arrays(golden))
    text = json.dumps(numbers(golden), indent=1) + "\n"
    (HERE / "golden.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
