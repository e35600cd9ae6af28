"""Reduce the golden numbers of the published program to tens of kB, for tests everywhere.

    python tests/golden/make.py GOLDEN_FOLDER

Writes golden.npz and golden.json beside itself; README.md says what is in them.
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


def told(golden: Path, name: str) -> Any:
    return json.loads((golden / f"{name}.json").read_text(encoding="utf-8"))


def arrays(golden: Path) -> dict[str, np.ndarray]:
    """Mutual matches of all pairs (int16), and a small set of descriptors with its matches."""
    kept = {}
    with np.load(golden / "mutual_matches_all_pairs.npz") as file:
        for query in QUERIES:
            for name in CANDIDATES:
                for size in SIZES:
                    key = f"{query}-{name}-p{size}"
                    kept[key] = file[key].astype(np.int16)
    rng = np.random.default_rng(SUBSET_SEED)
    for name in ("q1", "db2"):
        with np.load(golden / f"{name}.npz") as file:
            patches = file[f"patch{SUBSET_SIZE}_pca"].T
        chosen = np.sort(rng.choice(len(patches), SUBSET, replace=False))
        kept[f"subset_{name}"] = np.ascontiguousarray(patches[chosen])
    kept["subset_matches"] = plain_matches(kept["subset_q1"], kept["subset_db2"])
    return kept


def plain_matches(query: np.ndarray, database: np.ndarray) -> np.ndarray:
    """Mutual nearest neighbours one by one, cosines in float64: (M, 2) int16."""
    pairs = []
    for j, wanted in enumerate(database.astype(np.float64)):
        cosines = [float(row.astype(np.float64) @ wanted) for row in query]
        i = int(np.argmax(cosines))
        back = [float(row.astype(np.float64) @ query[i].astype(np.float64)) for row in database]
        if int(np.argmax(back)) == j:
            pairs.append((i, j))
    return np.array(pairs, np.int16)


def pair_of(pair: str, scores: Any, ransac: Any) -> dict[str, Any]:
    """Scores of one pair a patch size, in the program's sign: smaller is better."""
    kept = {}
    for size, one in scores["per_patch_size"].items():
        counts = [*ransac[RANGES[0]]["inliers"][pair][size], *ransac[RANGES[1]][pair][size]]
        counts += [found[pair][size] for found in ransac["by_version"].values()]
        kept[size] = {
            "spatial": {"program": one["spatial_score"],
                        "paper": one["spatial_paper_readings"]["abs_of_max"],
                        "paper-absolute": one["spatial_paper_readings"]["max_of_abs"]},
            "inliers": one["ransac"][OPENCV]["inliers"],
            "inliers_range": [min(counts), max(counts)],
        }  # fmt: skip
    return kept


def numbers(golden: Path) -> dict[str, Any]:
    """Scores, fused scores and orders, and the numbers of the training side."""
    scores, ransac = told(golden, "matches_and_scores"), told(golden, "ransac_inliers_by_opencv")
    bits = told(golden, "training_bits")
    del bits["alpha_init"]["netvlad_of_q1_encoder_first8"]  # needs the encoder's whole output
    fused = {}
    for query in QUERIES:
        known = scores["reranking"][query]
        fused[query] = {"spatial": known["spatial"], "ransac": known["ransac"][OPENCV]}
    pairs = [f"{query}-{name}" for query in QUERIES for name in CANDIDATES]
    return {
        "opencv": OPENCV, "candidates": CANDIDATES, "weights": scores["conventions"]["weights"],
        "grids": {str(size): [31 - size, 41 - size] for size in SIZES},
        "pairs": {pair: pair_of(pair, scores["pairs"][pair], ransac) for pair in pairs},
        "fused": fused, "weights_check": told(golden, "weights_check"), "training_bits": bits,
    }  # fmt: skip


def main() -> None:
    golden = Path(sys.argv[1])
    np.savez_compressed(HERE / "golden.npz", **arrays(golden))
    text = json.dumps(numbers(golden), indent=1) + "\n"
    (HERE / "golden.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
