"""Compare trunks for the default method, on the validation halves alone.

    python benchmarks/trunks.py DATA_FOLDER TRUNK.onnx TRUNK.onnx ...

For each trunk and set: recall@1 of the global ranking and after re-ranking, with the settings of
the default. Models are fitted on the database photos; the queries are those of the validation
halves (docs/splits), of the streets every second. k-means begins with random features, so a fit is
a matter of chance: each figure is the mean of four fits with different seeds, and ``_sd`` is their
standard deviation. A trunk must state its mean and deviation, as those do that
``tools/convert_efficientnet_lite0.py`` and ``placerec train --recipe invariance`` make.

The script writes results/trunks.csv trunk by trunk, and the table in docs/MEASUREMENTS.md. It skips
trunks that are already there; delete the file to start again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from choices import DEFAULT, PAGE, SETS, validation
from table import ROOT, THREADS, Set, append_rows, page_table, read_rows, read_set, write_page
from table import stored as as_stored

from placerec.evaluation.layouts import open_dataset
from placerec.method.ranking import best_first, shortlist
from placerec.method.scores import match_candidates, score_matches
from placerec.models import fit
from placerec.trunks.external import OnnxTrunk
from placerec.workers import map_in_order, single_threaded_blas

RESULTS = ROOT / "results" / "trunks.csv"
SEEDS = (0, 1, 2, 3)
COLUMNS = ("trunk", "sha256", "set", "queries", "global", "global_sd", "re_ranked", "re_ranked_sd")


def first_places(one: Set, model: fit.Model) -> Iterator[tuple[str, str, str]]:
    """Yield the name of a query, and its first place before and after re-ranking."""
    names = one.data.database.names
    described = [model.describe_map(np.asarray(features)) for features in one.database]
    database = np.stack([features.global_descriptor for features in described])
    patches = [as_stored(features) for features in described]

    def ask(number: int) -> tuple[str, str, str]:
        query = model.describe_map(np.asarray(one.queries[number]), stride=1)
        rows, cosines = shortlist(query.global_descriptor, database, DEFAULT.candidates)
        matched = match_candidates(query.patches, [patches[row] for row in rows])
        best = best_first(score_matches(matched, DEFAULT, cosines=cosines)[0])[0]
        return one.data.queries.names[number], names[rows[0]], names[rows[best]]

    yield from map_in_order(ask, validation(one), THREADS)


def rows_of(trunk: OnnxTrunk, folder: Path) -> Iterator[dict[str, object]]:
    """Yield one row per ground truth of the set in ``folder``."""
    one = read_set(folder, trunk=trunk)
    truths = {
        label: open_dataset(folder, ground_truth=folder / truth).searches[0].answers
        for label, truth in SETS[folder.name].items()
    }
    right: dict[str, list[list[float]]] = {label: [] for label in truths}
    for seed in SEEDS:
        fit.SEED = seed
        model = fit.fit_model(trunk, DEFAULT, one.database, name="", training_data="")
        asked = list(first_places(one, model))
        for label, answers in truths.items():
            right[label].append(
                [np.mean([places[n] in answers[name] for name, *places in asked]) for n in (0, 1)]
            )
    for label, values in right.items():
        mean, deviation = np.mean(values, axis=0), np.std(values, axis=0)
        yield {
            "trunk": trunk.name.removesuffix(".onnx"), "sha256": trunk.sha256, "set": label,
            "queries": len(asked), "global": f"{mean[0]:.4f}", "global_sd": f"{deviation[0]:.4f}",
            "re_ranked": f"{mean[1]:.4f}", "re_ranked_sd": f"{deviation[1]:.4f}",
        }  # fmt: skip


def markdown(rows: list[dict[str, str]]) -> str:
    """The table as it stands on the page: ``global -> re-ranked``, a column per set."""
    labels = list(dict.fromkeys(row["set"] for row in rows))
    cells: dict[str, list[str]] = {}
    for row in rows:
        cell = f"{float(row['global']):.3f} → {float(row['re_ranked']):.3f}"
        cells.setdefault(row["trunk"], []).append(cell)
    return page_table(("trunk", *labels), [(name, *line) for name, line in cells.items()])


def main() -> None:
    """Measure the trunks that are not yet in the results."""
    data, paths = Path(sys.argv[1]), [Path(argument) for argument in sys.argv[2:]]
    done = {row["sha256"] for row in read_rows(RESULTS)}
    with single_threaded_blas():
        for path in paths:
            trunk = OnnxTrunk.from_file(path)
            if trunk.sha256 in done:
                continue
            rows = [row for name in SETS for row in rows_of(trunk, data / name)]
            append_rows(RESULTS, COLUMNS, rows)
            print(path, "done", flush=True)
    write_page(PAGE, "trunks", markdown(read_rows(RESULTS)))


if __name__ == "__main__":
    main()
