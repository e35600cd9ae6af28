"""Compare the scorers ransac and usac: recall, query by query, on the test halves.

    python benchmarks/usac.py DATA_FOLDER RUNS_FOLDER

Both score the patches of the default method, fitted on the database photos; the default's own
scorer takes no part. ``ms`` is the median time to compare the candidates of a query, on 2 threads.
The intervals of the differences are paired. A killed run resumes. The script writes
results/usac.csv and the table in docs/SPEED.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from shipped_trunk import CASES, answered
from speed import PAGE
from storage import LABELS
from table import ROOT, append_rows, page_table, read_rows, write_page

from placerec.evaluation.compare import compare
from placerec.evaluation.methods import named_method
from placerec.evaluation.run_folder import ScoredRun

RESULTS = ROOT / "results" / "usac.csv"
SCORERS = ("ransac", "usac")
COLUMNS = ("set", "queries", "ransac", "usac", "difference", "low", "high", "won", "lost",
           "ransac_ms", "usac_ms")  # fmt: skip


def rows_of(data: Path, runs: Path) -> Iterator[dict[str, object]]:
    """Yield one row per case."""
    for label in LABELS:
        both = [
            answered(data, named_method(changes={"scorer": scorer}),
                     runs / CASES[label][0] / scorer, label)
            for scorer in SCORERS
        ]  # fmt: skip
        one = next(m for m in compare(*both).differences if m.measure == "recall@1")
        yield {
            "set": label, "queries": len(both[0].outcomes), "ransac": f"{one.first:.4f}",
            "usac": f"{one.second:.4f}", "difference": f"{one.difference:.4f}",
            "low": f"{one.low:.4f}", "high": f"{one.high:.4f}", "won": one.won, "lost": one.lost,
            **{f"{name}_ms": f"{rerank_ms(run):.1f}"
               for name, run in zip(SCORERS, both, strict=True)},
        }  # fmt: skip


def rerank_ms(run: ScoredRun) -> float:
    return median(outcome.milliseconds["rerank"] for outcome in run.outcomes)


def markdown(rows: list[dict[str, str]]) -> str:
    """The table as it stands on the page."""
    head = ("set", "queries", "ransac", "usac", "difference", "won", "lost", "ransac, ms",
            "usac, ms")  # fmt: skip
    cells = [
        (row["set"], row["queries"], f"{float(row['ransac']):.3f}", f"{float(row['usac']):.3f}",
         f"{float(row['difference']):+.3f} [{float(row['low']):+.3f}, {float(row['high']):+.3f}]",
         row["won"], row["lost"], row["ransac_ms"], row["usac_ms"])
        for row in rows
    ]  # fmt: skip
    return page_table(head, cells)


def main() -> None:
    """Measure, and write the table."""
    rows = list(rows_of(Path(sys.argv[1]), Path(sys.argv[2])))
    RESULTS.unlink(missing_ok=True)
    append_rows(RESULTS, COLUMNS, rows)
    write_page(PAGE, "usac", markdown(read_rows(RESULTS)))


if __name__ == "__main__":
    main()
