"""Measure the presets of storage: recall against exact, query by query, and bytes per photo.

    python benchmarks/storage.py DATA_FOLDER RUNS_FOLDER

The default method answers the queries of the test halves (docs/splits) from an index of each
preset, fitted on the database photos. All presets have the same model, so only the storage differs.
The intervals of the differences are paired. ``growth`` is how many bytes the file of an index grows
per photo from the 100th to the 200th photo, with names, positions and all. A killed run resumes.
The script writes results/storage.csv and the table in docs/MEASUREMENTS.md.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from choices import PAGE
from shipped_trunk import CASES, answered
from table import ROOT, append_rows, page_table, read_rows, write_page

from placerec import add_photos, build_index
from placerec.evaluation.compare import compare
from placerec.evaluation.methods import Method, named_method
from placerec.settings import CHOICES

RESULTS = ROOT / "results" / "storage.csv"
EXACT, *OTHERS = CHOICES["preset"]
LABELS = [label for label, (_, _, distractors) in CASES.items() if not distractors]
GROWN = "gsv_cambridge_test/database"
COLUMNS = ("set", "queries", "preset", "ranking", "exact", "recall@1", "difference", "low", "high",
           "won", "lost", "growth")  # fmt: skip


def with_preset(preset: str) -> Method:
    """The default method with an index of one preset."""
    return named_method(changes={"preset": preset})


def growth(data: Path, preset: str) -> float:
    """Bytes per photo by which an index file grows from the 100th to the 200th photo."""
    photos = sorted((data / GROWN).iterdir())[:200]
    with tempfile.TemporaryDirectory() as folder:
        for photo in photos:
            shutil.copy(photo, folder)
        index = Path(folder) / "grown.placerec"
        names = [photo.name for photo in photos]
        build_index(index, folder, names=names[:100], preset=preset)
        before = index.stat().st_size
        add_photos(index, [Path(folder) / name for name in names[100:]])
        return (index.stat().st_size - before) / 100


def rows_of(data: Path, runs: Path) -> Iterator[dict[str, object]]:
    """Yield two rows per case and preset: the global ranking and the final one."""
    grown = {preset: growth(data, preset) for preset in CHOICES["preset"]}
    for label in LABELS:
        folder = runs / CASES[label][0]
        exact = answered(data, with_preset(EXACT), folder / EXACT, label)
        for preset in OTHERS:
            other = answered(data, with_preset(preset), folder / preset, label)
            both = compare(exact, other)
            for ranking, measures in (("global", both.retrieved), ("final", both.differences)):
                one = next(measure for measure in measures if measure.measure == "recall@1")
                yield {
                    "set": label, "queries": both.queries, "preset": preset, "ranking": ranking,
                    "exact": f"{one.first:.4f}", "recall@1": f"{one.second:.4f}",
                    "difference": f"{one.difference:.4f}", "low": f"{one.low:.4f}",
                    "high": f"{one.high:.4f}", "won": one.won, "lost": one.lost,
                    "growth": f"{grown[preset]:.0f}",
                }  # fmt: skip
        facts = {"set": label, "queries": both.queries, "preset": EXACT}
        yield facts | {"growth": f"{grown[EXACT]:.0f}"}


def markdown(rows: list[dict[str, str]]) -> str:
    """The table as it stands on the page: final recall@1, and the difference to exact."""
    labels = list(dict.fromkeys(row["set"] for row in rows))
    final = [row for row in rows if row["ranking"] == "final"]
    grown = {row["preset"]: f"{int(row['growth']):,}" for row in rows}
    exact = [next(row["exact"] for row in final if row["set"] == label) for label in labels]
    lines = [(EXACT, grown[EXACT], *(f"{float(value):.3f}" for value in exact))]
    for preset in OTHERS:
        cells = [row for row in final if row["preset"] == preset]
        told = (
            f"{float(row['recall@1']):.3f} ({float(row['difference']):+.3f} "
            f"[{float(row['low']):+.3f}, {float(row['high']):+.3f}])"
            for row in cells
        )
        lines.append((preset, grown[preset], *told))
    return page_table(("preset", "bytes per photo", *labels), lines)


def main() -> None:
    """Measure what is not there yet, and write the table."""
    rows = list(rows_of(Path(sys.argv[1]), Path(sys.argv[2])))
    RESULTS.unlink(missing_ok=True)
    append_rows(RESULTS, COLUMNS, rows)
    write_page(PAGE, "storage", markdown(read_rows(RESULTS)))


if __name__ == "__main__":
    main()
