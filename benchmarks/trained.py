"""Compare the presets of the paper before and after the training of VGG16, query by query.

    python benchmarks/training_run.py DATA_FOLDER RUNS_FOLDER/training --device cuda
    python benchmarks/trained.py DATA_FOLDER RUNS_FOLDER [--device cuda]

Before: the VGG16 of ImageNet, with the vocabulary and the PCA of the database photos. After: the
model in RUNS_FOLDER/training, whose vocabulary and PCA are those of its training set. The queries
are those of the test halves (docs/splits); the training saw neither them nor their map. The
intervals are paired. A killed run resumes. The script writes results/trained.csv and the table in
docs/TRAINING.md. Milliseconds are per query on the device, the sum of the medians of the stages.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median

from shipped_trunk import CASES, RUNTIME, answered
from table import ROOT, append_rows, page_table, read_rows, write_page
from training_run import PAGE

from placerec.evaluation.compare import compare
from placerec.evaluation.methods import named_method
from placerec.evaluation.run_folder import ScoredRun
from placerec.models.resolve import AUTO
from placerec.runtime import Runtime
from placerec.training.run_folder import MODEL

RESULTS = ROOT / "results" / "trained.csv"
METHODS = ("paper-storage", "paper-speed", "paper-performance")
LABELS = [label for label, (_, _, distractors) in CASES.items() if not distractors]
COLUMNS = ("set", "queries", "method", "device", "ranking", "before", "after", "difference", "low",
           "high", "won", "lost", "ms")  # fmt: skip


def rows_of(data: Path, runs: Path, runtime: Runtime, done: set[tuple[str, str]]) -> Iterator[dict]:
    """Yield two rows per method and case that is not done: the global ranking and the final one."""
    for name in METHODS:
        for label in LABELS:
            if (name, label) in done:
                continue
            both: list[ScoredRun] = []
            for model in (AUTO, runs / "training" / MODEL):
                out = runs / CASES[label][0] / f"{name} {'before' if model == AUTO else 'after'}"
                method = named_method(name, model=model, runtime=runtime)
                both.append(answered(data, method, out, label, runtime))
            compared = compare(*both)
            for ranking, measures in (
                ("global", compared.retrieved), ("final", compared.differences),
            ):  # fmt: skip
                one = next(measure for measure in measures if measure.measure == "recall@1")
                yield {
                    "set": label, "queries": compared.queries, "method": name,
                    "device": runtime.device, "ranking": ranking, "before": f"{one.first:.4f}",
                    "after": f"{one.second:.4f}", "difference": f"{one.difference:.4f}",
                    "low": f"{one.low:.4f}", "high": f"{one.high:.4f}", "won": one.won,
                    "lost": one.lost, "ms": f"{milliseconds(both[1]):.1f}",
                }  # fmt: skip


def milliseconds(run: ScoredRun) -> float:
    """The time of a query, from the file to the answer."""
    times = [outcome.milliseconds for outcome in run.outcomes]
    return sum(median(one[stage] for one in times) for stage in times[0])


def markdown(rows: list[dict[str, str]]) -> str:
    """The table as it stands on the page."""
    head = ("set", "queries", "method", "ranking", "before", "after", "difference", "won", "lost")
    cells = [
        (row["set"], row["queries"], row["method"], row["ranking"],
         f"{float(row['before']):.3f}", f"{float(row['after']):.3f}",
         f"{float(row['difference']):+.3f} [{float(row['low']):+.3f}, {float(row['high']):+.3f}]",
         row["won"], row["lost"])
        for row in rows
    ]  # fmt: skip
    return page_table(head, cells)


def main() -> None:
    """Measure what is not there yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    rows = read_rows(RESULTS) if RESULTS.exists() else []
    done = {(row["method"], row["set"]) for row in rows}
    for row in rows_of(asked.data, asked.runs, replace(RUNTIME, device=asked.device), done):
        append_rows(RESULTS, COLUMNS, [row])
        print(row, flush=True)
    write_page(PAGE, "trained", markdown(read_rows(RESULTS)))


if __name__ == "__main__":
    main()
