"""Measure where the milliseconds of a query go: the default method, 1000 photos, 2 threads.

    python benchmarks/query_time.py PHOTOS_FOLDER

The script indexes the first 1000 photos of a folder, asks 100 of them, and takes the median of
each stage. It writes results/query_time.csv and the table in docs/MEASUREMENTS.md.
"""

from __future__ import annotations

import csv
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from table import ROOT, read_rows, write_page

from placerec.index.build import build_index
from placerec.index.reader import StoredPatches
from placerec.method.scores import match_candidates, score_matches
from placerec.photos.find import find_photos
from placerec.photos.prepare import prepare
from placerec.recognise.recognizer import PlaceRecognizer
from placerec.runtime import Runtime
from placerec.workers import single_threaded_blas

RESULTS = ROOT / "results" / "query_time.csv"
PAGE = ROOT / "docs" / "MEASUREMENTS.md"
PHOTOS, QUERIES, THREADS = 1000, 100, 2
STAGES = ("decode", "trunk", "descriptors", "search", "read candidates", "match", "vote")


@contextmanager
def timed(spent: dict[str, list[float]], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    spent[stage].append(1000 * (time.perf_counter() - start))


def measure(folder: Path) -> dict[str, float]:
    """Median milliseconds of each stage, of a whole query, and of ``import placerec``."""
    spent: dict[str, list[float]] = {stage: [] for stage in (*STAGES, "a query in all")}
    with tempfile.TemporaryDirectory() as scratch:
        photos = Path(scratch) / "photos"
        photos.mkdir()
        for name in find_photos(folder)[:PHOTOS]:
            (photos / name.replace("/", "_")).symlink_to((folder / name).resolve())
        index = Path(scratch) / "photos.placerec"
        build_index(index, photos)
        with PlaceRecognizer.open(index, runtime=Runtime(threads=THREADS)) as asked:
            paths = sorted(photos.iterdir())[:: PHOTOS // QUERIES]
            for path in paths:
                ask(asked, path, spent)
    spent["import placerec"] = [import_milliseconds() for _ in range(5)]
    return {stage: statistics.median(values) for stage, values in spent.items()}


def ask(asked: PlaceRecognizer, path: Path, spent: dict[str, list[float]]) -> None:
    """One query stage by stage, and once more whole."""
    model, settings = asked.model, asked.settings
    with single_threaded_blas():
        with timed(spent, "decode"):
            image = prepare(model.read(path).pixels, model.trunk.preprocessing(settings.image_size))
        with timed(spent, "trunk"):
            features = model.trunk(image).transpose(1, 2, 0).copy()
        with timed(spent, "descriptors"):
            query = model.describe_map(features, stride=1)
        with timed(spent, "search"):
            rows, _ = asked.shortlist(query, settings.candidates)
        with timed(spent, "read candidates"):
            stored = list(asked.index.read_patches(rows.tolist()))
        with timed(spent, "match"):
            matched = match_candidates(query.patches, stored, THREADS, StoredPatches.decode)
        with timed(spent, "vote"):
            score_matches(matched, settings, THREADS)
    with timed(spent, "a query in all"):
        asked.query(path)


def import_milliseconds() -> float:
    code = "import time; t = time.perf_counter(); import placerec; print(time.perf_counter() - t)"
    words = [sys.executable, "-c", code]
    return 1000 * float(subprocess.run(words, capture_output=True, check=True).stdout)


def markdown(rows: list[dict[str, str]]) -> str:
    """The table on the page."""
    lines = ["| stage | ms (median) |", "|---|---|"]
    return "\n".join(lines + [f"| {row['stage']} | {float(row['ms']):.1f} |" for row in rows])


def main() -> None:
    found = measure(Path(sys.argv[1]))
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("stage", "ms"))
        writer.writerows((stage, f"{value:.2f}") for stage, value in found.items())
    write_page(PAGE, "query_time", markdown(read_rows(RESULTS)))


if __name__ == "__main__":
    main()
