"""Measure the choices behind the default method, on the validation halves alone.

    python benchmarks/choices.py DATA_FOLDER

Each row changes one thing of the default method. Models are fitted on the database photos; the
queries are those of the validation halves (docs/splits). The script writes results/choices.csv row
by row, and the tables in docs/MEASUREMENTS.md. It skips rows that exist; delete the file to start
again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from table import (
    ROOT,
    THREADS,
    Set,
    append_rows,
    bytes_per_photo,
    read_rows,
    read_set,
    stored,
    write_page,
)

from placerec.evaluation.layouts import open_dataset
from placerec.evaluation.query_lists import select_queries
from placerec.evaluation.scoring.metrics import recalls
from placerec.method import displacement
from placerec.method.ranking import best_first, shortlist
from placerec.method.scores import match_candidates, score_matches
from placerec.models.fit import fit_model
from placerec.models.model import Model
from placerec.records import Array
from placerec.settings import METHODS, Settings
from placerec.trunks import open_trunk
from placerec.workers import single_threaded_blas

RESULTS = ROOT / "results" / "choices.csv"
PAGE = ROOT / "docs" / "MEASUREMENTS.md"
DEFAULT = METHODS["default"]
SETS = {
    "gsv_cambridge_test": {"gsv 25 m": "ground_truth.csv", "gsv strict": "ground_truth_strict.csv"},
    "corridor": {"corridor": "ground_truth.csv"},
    "amos_day_night": {"amos": "ground_truth.csv"},
}
MOST_QUERIES = 124
LABELS = tuple(label for truths in SETS.values() for label in truths)
COLUMNS = ("part", "choice", *LABELS, "bytes_per_photo")


@dataclass(frozen=True)
class Choice:
    """One row: settings that differ from the default, or constants of ``displacement``."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    constants: dict[str, Any] = field(default_factory=dict)
    bars: bool = False


PLAIN = {"pooling": 1, "image_centring": 0.0, "local_dim": 0, "bands": 1}
GLOBAL = (
    Choice("the default"),
    Choice("NetVLAD as published", PLAIN),
    Choice("NetVLAD, PCA to 512, whitened", {**PLAIN, "global_dim": 512, "whitening": 1.0}),
    Choice("without image centring", {"image_centring": 0.0}),
    Choice("without pooling", {"pooling": 1}),
    Choice("one band", {"bands": 1}),
    Choice("K = 32", {"clusters": 32}),
    Choice("PCA to 256, power .25", {"global_dim": 256, "whitening": 0.25}),
    Choice("PCA to 512, whitened", {"global_dim": 512, "whitening": 1.0}),
    Choice("aspect kept, grey bars", bars=True),
)
PATCHES = (
    Choice("the default"),
    Choice("the patches alone", {}, {"GLOBAL_POWER": 0.0}),
    Choice("global power 3", {}, {"GLOBAL_POWER": 3.0}),
    Choice("global power 7", {}, {"GLOBAL_POWER": 7.0}),
    Choice("plain votes (max(0, cosine))", {}, {"BACKGROUND_SHARE": 0.0, "DISTINCTNESS_POWER": 0}),
    Choice("votes max(0, s - .8 b)", {}, {"DISTINCTNESS_POWER": 0}),
    Choice("votes max(0, s - .8 b) (1 - b)", {}, {"DISTINCTNESS_POWER": 1}),
    Choice("box 5", {"box": 5}),
    Choice("box 9", {"box": 9}),
    Choice("one scale", {}, {"SCALES": (1.0,)}),
    Choice("five scales", {}, {"SCALES": (1.0, 0.8, 1.25, 0.64, 1.5625)}),
    Choice("K_patch = 4", {"k_patch": 4}),
    Choice("patch size 3", {"patch_sizes": ((3, 3),)}),
    Choice("patch sizes 2, 5", {"patch_sizes": ((2, 2), (5, 5))}),
    Choice("database stride 1", {"stride": 1}),
    Choice("database stride 3", {"stride": 3}),
    Choice("PCA to 32", {"pca_dim": 32}),
    Choice("10 candidates", {"candidates": 10}),
    Choice("50 candidates", {"candidates": 50}),
    Choice("100 candidates", {"candidates": 100}),
    Choice("aspect kept, grey bars", bars=True),
)


def with_bars(pixels: Array) -> Array:
    """``pixels`` (H, W, 3) within grey bars, so that they are 4:3 like the trunk's input."""
    height, width = pixels.shape[:2]
    down, across = max(0, round(width * 3 / 4) - height), max(0, round(height * 4 / 3) - width)
    sides = ((down // 2, down - down // 2), (across // 2, across - across // 2), (0, 0))
    return np.pad(pixels, sides, constant_values=127)


@contextmanager
def constants(values: dict[str, Any]) -> Iterator[None]:
    """The module constants of ``displacement`` changed for the time of a block."""
    old = {name: getattr(displacement, name) for name in values}
    for name, value in values.items():
        setattr(displacement, name, value)
    try:
        yield
    finally:
        for name, value in old.items():
            setattr(displacement, name, value)


def fit(one: Set, settings: Settings) -> Model:
    return fit_model(
        open_trunk("efficientnet-lite0"), settings, one.database, name="", training_data=""
    )


def validation(one: Set) -> list[int]:
    """Numbers of the queries of the validation half, at most 124 of them, evenly spread."""
    table = ROOT / "docs" / "splits" / f"{one.folder.name}.csv"
    chosen = set(
        select_queries(open_dataset(one.folder), table, "validation").searches[0].queries.names
    )
    numbers = [i for i, name in enumerate(one.data.queries.names) if name in chosen]
    return numbers[:: -(-len(numbers) // MOST_QUERIES)]


def shortlists(one: Set, model: Model) -> dict[int, tuple[Array, Array]]:
    """The first 100 rows and their cosines for each validation query."""
    database = np.stack([
        model.describe_map(np.asarray(m)).global_descriptor for m in one.database
    ])  # fmt: skip
    return {
        i: shortlist(model.describe_map(np.asarray(one.queries[i])).global_descriptor,
                     database, 100)
        for i in validation(one)
    }  # fmt: skip


def global_row(one: Set, choice: Choice) -> tuple[dict[str, list[str]], int]:
    model = fit(one, DEFAULT.replace(patch_sizes=()).replace(**choice.settings))
    ranked = {
        one.data.queries.names[i]: [one.data.database.names[row] for row in rows]
        for i, (rows, _) in shortlists(one, model).items()
    }
    return ranked, bytes_per_photo(model.describe_map(np.asarray(one.database[0])))


def patch_row(
    one: Set, choice: Choice, lists: dict[int, tuple[Array, Array]]
) -> tuple[dict[str, list[str]], int]:
    settings = DEFAULT.replace(**choice.settings)
    model = fit(one, settings)
    sets = [stored(model.describe_map(np.asarray(m))) for m in one.database]
    ranked = {}
    with constants(choice.constants):
        for i, (rows, cosines) in lists.items():
            query = model.describe_map(np.asarray(one.queries[i]), stride=1).patches
            some, similar = rows[: settings.candidates], cosines[: settings.candidates]
            matched = match_candidates(query, [sets[row] for row in some], THREADS)
            order = best_first(score_matches(matched, settings, THREADS, similar)[0])
            ranked[one.data.queries.names[i]] = [one.data.database.names[some[n]] for n in order]
    return ranked, bytes_per_photo(model.describe_map(np.asarray(one.database[0])))


def markdown(rows: list[dict[str, str]]) -> str:
    """The two tables as they stand on the page."""
    head = ("choice", *LABELS, "bytes per photo")
    lines = []
    for part in ("global descriptor", "re-ranking"):
        lines += [f"| {part}, {' | '.join(head)} |", f"|{'---|' * len(head)}"]
        lines += [
            "| " + " | ".join((row["choice"], *(row[label] for label in LABELS),
                               row["bytes_per_photo"])) + " |"
            for row in rows if row["part"] == part
        ]  # fmt: skip
        lines.append("")
    return "\n".join(lines).rstrip()


def told(ranked: dict[str, list[str]], folder: Path) -> dict[str, str]:
    """``recall@1 / recall@5`` for each ground truth of a set."""
    cells = {}
    for label, truth in SETS[folder.name].items():
        answers = open_dataset(folder, ground_truth=folder / truth).searches[0].answers
        found = recalls(ranked, answers)
        cells[label] = f"{found['recall@1']:.3f} / {found['recall@5']:.3f}"
    return cells


def main() -> None:
    data = Path(sys.argv[1])
    done = {(row["part"], row["choice"]) for row in read_rows(RESULTS)}
    with single_threaded_blas():
        read = {False: [read_set(data / name) for name in SETS],
                True: [read_set(data / name, with_bars) for name in SETS]}  # fmt: skip
        asked = {
            bars: [shortlists(one, fit(one, DEFAULT.replace(patch_sizes=()))) for one in sets]
            for bars, sets in read.items()
        }
        for part, choices in (("global descriptor", GLOBAL), ("re-ranking", PATCHES)):
            for choice in choices:
                if (part, choice.name) in done:
                    continue
                row: dict[str, object] = {"part": part, "choice": choice.name}
                for one, found in zip(read[choice.bars], asked[choice.bars], strict=True):
                    ranked, size = (
                        global_row(one, choice) if choices is GLOBAL
                        else patch_row(one, choice, found)
                    )  # fmt: skip
                    row |= told(ranked, one.folder)
                    row.setdefault("bytes_per_photo", size)  # of the largest set, the first
                append_rows(RESULTS, COLUMNS, [row])
                print(row, flush=True)
    write_page(PAGE, "choices", markdown(read_rows(RESULTS)))


if __name__ == "__main__":
    main()
