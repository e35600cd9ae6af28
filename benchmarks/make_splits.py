"""Write docs/splits/SET.csv (query,half): which queries choose and which report.

    python benchmarks/make_splits.py DATA_FOLDER

Whole places go into one half: a panorama (gsv_cambridge_test), a block of 10 consecutive frames
(corridor), a webcam (amos_day_night). Sorted places are permuted by numpy's default_rng(0); the
first half, rounded down, is validation. Only queries are split, the database stays whole.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

PLACE_OF: dict[str, Callable[[str], str]] = {
    "amos_day_night": lambda name: name.split("_")[0],
    "corridor": lambda name: f"{int(Path(name).stem) // 10:04d}",
    "gsv_cambridge_test": lambda name: name.split("_")[0],
}
SPLITS = Path(__file__).parent.parent / "docs" / "splits"


def halves(queries: list[str], place_of: Callable[[str], str]) -> dict[str, str]:
    """The half of each query."""
    places = sorted({place_of(name) for name in queries})
    order = np.random.default_rng(0).permutation(len(places))
    validation = {places[i] for i in order[: len(places) // 2]}
    return {q: "validation" if place_of(q) in validation else "test" for q in queries}


def main() -> None:
    data = Path(sys.argv[1])
    SPLITS.mkdir(parents=True, exist_ok=True)
    for name, place_of in PLACE_OF.items():
        queries = sorted(path.name for path in (data / name / "queries").iterdir())
        with (SPLITS / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("query", "half"))
            writer.writerows(halves(queries, place_of).items())


if __name__ == "__main__":
    main()
