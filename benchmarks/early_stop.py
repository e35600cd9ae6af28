"""Measure when a query may stop to compare candidates: recall, candidates and time.

    python benchmarks/early_stop.py DATA_FOLDER INDEX_FOLDER

Each query is described once. Then its candidates are compared with each value of ``stop_at``, in
turn, so that the times can be compared: milliseconds from the shortlist to the scores on 2 threads,
median over the queries. The value of the default was chosen on the validation halves (docs/splits);
the test halves show what it costs. Indexes are built in INDEX_FOLDER on the database photos. The
script writes results/early_stop.csv and the table in docs/MEASUREMENTS.md.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from choices import PAGE, SETS
from table import ROOT, THREADS, append_rows, page_table, read_rows, write_page

from placerec.evaluation.layouts import open_dataset
from placerec.evaluation.query_lists import select_queries
from placerec.evaluation.searchers import IndexSearcher
from placerec.method.ranking import best_first
from placerec.models.resolve import AUTO
from placerec.runtime import Runtime
from placerec.settings import Settings
from placerec.workers import single_threaded_blas

RESULTS = ROOT / "results" / "early_stop.csv"
VALUES = (1.0, 0.98, 0.95, 0.9, 0.8)
HALVES = ("validation", "test")
COLUMNS = ("set", "half", "queries", "stop_at", "recall@1", "won", "lost", "candidates", "ms",
           "share_of_time")  # fmt: skip


def rows_of(folder: Path, half: str, index: Path) -> Iterator[dict[str, object]]:
    """Yield a row per ground truth and value of ``stop_at``."""
    table = ROOT / "docs" / "splits" / f"{folder.name}.csv"
    search = select_queries(open_dataset(folder), table, half).searches[0]
    opened = IndexSearcher.open(search, index, AUTO, Settings(), Runtime(threads=THREADS))
    recognizers = {
        value: replace(opened.recognizer, settings=Settings(stop_at=value)) for value in VALUES
    }
    leaders: dict[float, list[str]] = {value: [] for value in VALUES}
    spent: dict[float, list[float]] = {value: [] for value in VALUES}
    counts: dict[float, list[int]] = {value: [] for value in VALUES}
    for path in search.queries.paths:
        features = opened.encode(path).features
        rows, _ = opened.recognizer.shortlist(features, Settings().candidates)
        for value, recognizer in recognizers.items():
            begun = time.perf_counter()
            scores, _ = recognizer.score(features, rows.tolist())
            spent[value].append(1000 * (time.perf_counter() - begun))
            counts[value].append(len(scores))
            best = opened.numbers[rows[best_first(scores)[0]]]
            leaders[value].append(search.database.names[best])
    opened.close()
    for label, truth in SETS[folder.name].items():
        answers = open_dataset(folder, ground_truth=folder / truth).searches[0].answers
        right = {
            value: np.array([
                leader in answers[name]
                for name, leader in zip(search.queries.names, leaders[value], strict=True)
            ])
            for value in VALUES
        }  # fmt: skip
        for value in VALUES:
            yield {
                "set": label, "half": half, "queries": len(right[value]), "stop_at": value,
                "recall@1": f"{right[value].mean():.4f}",
                "won": int((right[value] & ~right[1.0]).sum()),
                "lost": int((right[1.0] & ~right[value]).sum()),
                "candidates": f"{np.mean(counts[value]):.2f}",
                "ms": f"{np.median(spent[value]):.2f}",
                "share_of_time": f"{np.sum(spent[value]) / np.sum(spent[1.0]):.3f}",
            }  # fmt: skip


def markdown(rows: list[dict[str, str]]) -> str:
    """The table as it stands on the page: recall@1, candidates and share of the time."""
    labels = list(dict.fromkeys(row["set"] for row in rows))
    lines = [
        (half, str(value), *(
            f"{float(row['recall@1']):.3f}, {float(row['candidates']):.1f}, "
            f"{float(row['share_of_time']):.2f}"
            for row in rows if row["half"] == half and float(row["stop_at"]) == value
        ))
        for half in HALVES for value in VALUES
    ]  # fmt: skip
    return page_table(("half", "stop_at", *labels), lines)


def main() -> None:
    """Measure both halves of every set."""
    data, indexes = Path(sys.argv[1]), Path(sys.argv[2])
    indexes.mkdir(parents=True, exist_ok=True)
    with single_threaded_blas():
        rows = [
            row
            for name in SETS
            for half in HALVES
            for row in rows_of(data / name, half, indexes / f"{name}.placerec")
        ]
    RESULTS.unlink(missing_ok=True)
    append_rows(RESULTS, COLUMNS, rows)
    write_page(PAGE, "early_stop", markdown(read_rows(RESULTS)))


if __name__ == "__main__":
    main()
