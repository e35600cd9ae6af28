"""Measure loop closure on the corridor: its database and then its queries, as one stream.

    python benchmarks/loops.py DATA_FOLDER

The frames come one a second. A loop of a query is right if the data set lists the earlier frame as
the same place (at most 2 frames off). A loop in the first pass is wrong, and so is one of two
frames of the second pass. The numbers of ``placerec.recognise.loop`` (the least confidence, the
frames before) were chosen on the validation half of the queries (docs/splits).

The model is the generic one, or one fitted on the first pass without labels. The last 30 seconds
are left out, or the last 100: then hardly a frame of the same pass is an answer.

The milliseconds are those of the processor, over all threads, so they vary less with other programs
on the machine: the median of the frames.

Writes results/loops.csv and the table in docs/STREAMS.md. It runs for some minutes.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from table import ROOT, append_rows, page_table, read_rows, write_page

from placerec import LoopDetector, fit_on_folder, save_model
from placerec.evaluation.dataset import Dataset
from placerec.evaluation.layouts import open_dataset
from placerec.evaluation.query_lists import select_queries
from placerec.recognise.loop import Loop
from placerec.runtime import Runtime

RESULTS, PAGE = ROOT / "results" / "loops.csv", ROOT / "docs" / "STREAMS.md"
COLUMNS = ("model", "skip_seconds", "half", "frames", "best_right", "accepted", "accepted_right",
           "precision", "recall", "first_pass", "first_pass_accepted", "cpu_ms_per_frame",
           "bytes_per_frame")  # fmt: skip
SKIPS = (30, 100)  # seconds
THREADS = 2


def run(dataset: Dataset, model: str, skip: float) -> tuple[list[tuple[Loop, ...]], float, float]:
    """Return the loops of each frame, the median milliseconds of the processor, bytes a frame."""
    search = dataset.searches[0]
    detector = LoopDetector(skip, model=model, runtime=Runtime(threads=THREADS))
    loops, times = [], []
    for second, path in enumerate((*search.database.paths, *search.queries.paths)):
        start = time.process_time()
        loops.append(detector.add(path, float(second)))
        times.append(time.process_time() - start)
    stored = detector.stored_bytes / len(detector)
    return loops, 1000 * float(np.median(times)), stored


def rows(dataset: Dataset, splits: Path, name: str, model: str) -> list[dict[str, object]]:
    """Return a row for each half and each number of seconds that are left out."""
    search, result = dataset.searches[0], []
    first = len(search.database.names)
    for skip in SKIPS:
        loops, milliseconds, stored = run(dataset, model, skip)
        before = [best[0] for best in loops[:first] if best]
        for half in ("validation", "test"):
            asked = set(select_queries(dataset, splits, half).searches[0].queries.names)
            chosen = [n for n, query in enumerate(search.queries.names) if query in asked]
            best = {n: loops[first + n][0] for n in chosen if loops[first + n]}
            right = {n for n in best if best[n].earlier in set(search.positives[n])}
            accepted = {n for n in best if best[n].accepted}
            result.append({
                "model": name, "skip_seconds": skip, "half": half, "frames": len(chosen),
                "best_right": len(right), "accepted": len(accepted),
                "accepted_right": len(accepted & right),
                "precision": f"{len(accepted & right) / max(1, len(accepted)):.3f}",
                "recall": f"{len(accepted & right) / len(chosen):.3f}",
                "first_pass": len(before),
                "first_pass_accepted": sum(loop.accepted for loop in before),
                "cpu_ms_per_frame": f"{milliseconds:.0f}", "bytes_per_frame": f"{stored:.0f}",
            })  # fmt: skip
    return result


def markdown(rows: list[dict[str, str]]) -> str:
    """Return the table of docs/STREAMS.md."""
    head = ("model", "seconds left out", "half", "frames", "best is right", "accepted",
            "of them right", "precision", "recall", "frames of the first pass", "accepted",
            "CPU ms per frame", "bytes per frame")  # fmt: skip
    return page_table(head, ([row[name] for name in COLUMNS] for row in rows))


def main() -> None:
    folder = Path(sys.argv[1]) / "corridor"
    dataset, splits = open_dataset(folder), ROOT / "docs" / "splits" / "corridor.csv"
    with tempfile.TemporaryDirectory() as temporary:
        model = Path(temporary) / "first_pass.safetensors"
        save_model(fit_on_folder(folder / "database")[0], model)
        measured = rows(dataset, splits, "generic", "generic")
        measured += rows(dataset, splits, "fitted on the first pass", str(model))
    RESULTS.unlink(missing_ok=True)
    append_rows(RESULTS, COLUMNS, measured)
    write_page(PAGE, "loops", markdown(read_rows(RESULTS)))


if __name__ == "__main__":
    main()
