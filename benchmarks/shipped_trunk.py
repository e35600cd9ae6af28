"""Compare the trunk that ships with ImageNet's weights, query by query, on the test halves.

    python benchmarks/shipped_trunk.py DATA_FOLDER IMAGENET.onnx RUNS_FOLDER

Both answer the queries of the test halves (docs/splits) with the default method, fitted on the
database photos. ``tools/convert_efficientnet_lite0.py`` makes IMAGENET.onnx. The intervals are
paired: both trunks are resampled together. A killed run resumes. The script writes
results/shipped_trunk.csv and the table in docs/MEASUREMENTS.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from choices import PAGE
from table import ROOT, THREADS, append_rows, page_table, read_rows, write_page

from placerec.evaluation.compare import Difference, compare
from placerec.evaluation.dataset import Dataset
from placerec.evaluation.layouts import open_dataset
from placerec.evaluation.methods import Method, named_method
from placerec.evaluation.query_lists import select_queries, with_distractors
from placerec.evaluation.run_folder import ScoredRun, read_run, write_scores
from placerec.evaluation.runner import evaluate
from placerec.evaluation.scoring.outcomes import outcomes
from placerec.evaluation.scoring.scores import scores
from placerec.runtime import Runtime

RESULTS = ROOT / "results" / "shipped_trunk.csv"
RUNTIME = Runtime(threads=THREADS)
TRUTH, DISTRACTORS = "ground_truth.csv", "gsv_cambridge_train/photos"
CASES = {  # set, ground truth, distractors
    "gsv 25 m": ("gsv_cambridge_test", TRUTH, ""),
    "gsv strict": ("gsv_cambridge_test", "ground_truth_strict.csv", ""),
    "corridor": ("corridor", TRUTH, ""),
    "amos": ("amos_day_night", TRUTH, ""),
    "amos + distractors": ("amos_day_night", TRUTH, DISTRACTORS),
}
COLUMNS = ("set", "queries", "ranking", "imagenet", "shipped", "difference", "low", "high", "won",
           "lost")  # fmt: skip


def asked_half(data: Path, name: str, truth: str, distractors: str) -> Dataset:
    """The test half of a set by one ground truth, with its distractors if there are any."""
    one = open_dataset(data / name, ground_truth=data / name / truth)
    one = select_queries(one, ROOT / "docs" / "splits" / f"{name}.csv", "test")
    return with_distractors(one, [data / distractors] if distractors else [])


def answered(
    data: Path, method: Method, out: Path, label: str, runtime: Runtime = RUNTIME
) -> ScoredRun:
    """The scored answers of a method to the queries of a test half, kept in ``out``.

    The answers do not depend on the ground truth, so one run serves both rules of a set.
    """
    name, truth, distractors = CASES[label]
    asked = asked_half(data, name, TRUTH, distractors)
    run = evaluate(asked, method, out=out, runtime=runtime)
    dataset = asked_half(data, name, truth, distractors)
    judged = outcomes(dataset, run.predictions.predictions)
    (out / label).mkdir(exist_ok=True)
    write_scores(out / label, scores(dataset, judged), judged)
    return read_run(out / label)


def rows_of(data: Path, imagenet: str, runs: Path) -> Iterator[dict[str, object]]:
    """Yield two rows per case: the global ranking and the final one."""
    for label, (name, _, distractors) in CASES.items():
        folder = runs / f"{name}{' +' * bool(distractors)}"
        before = answered(data, named_method(model=imagenet), folder / "imagenet", label)
        both = compare(before, answered(data, named_method(), folder / "shipped", label))
        for ranking, measures in (("global", both.retrieved), ("final", both.differences)):
            first = next(measure for measure in measures if measure.measure == "recall@1")
            yield {"set": label, "queries": both.queries, "ranking": ranking, **figures(first)}


def figures(one: Difference) -> dict[str, object]:
    """The columns of a difference."""
    values = (one.first, one.second, one.difference, one.low, one.high)
    names = ("imagenet", "shipped", "difference", "low", "high")
    numbers = {name: f"{value:.4f}" for name, value in zip(names, values, strict=True)}
    return {**numbers, "won": one.won, "lost": one.lost}


def markdown(rows: list[dict[str, str]]) -> str:
    """The table as it stands on the page."""
    head = ("set", "queries", "ranking", "ImageNet", "shipped", "difference", "won", "lost")
    cells = [
        (row["set"], row["queries"], row["ranking"], row["imagenet"], row["shipped"],
         f"{row['difference']} [{row['low']}, {row['high']}]", row["won"], row["lost"])
        for row in rows
    ]  # fmt: skip
    return page_table(head, cells)


def main() -> None:
    data, imagenet, runs = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    rows = list(rows_of(data, imagenet, runs))
    RESULTS.unlink(missing_ok=True)
    append_rows(RESULTS, COLUMNS, rows)
    write_page(PAGE, "shipped_trunk", markdown(read_rows(RESULTS)))


if __name__ == "__main__":
    main()
