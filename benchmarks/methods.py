"""Measure every method with real weights on the real sets: recall, milliseconds, bytes.

    python benchmarks/training_run.py DATA_FOLDER RUNS_FOLDER/training
    python benchmarks/methods.py DATA_FOLDER RUNS_FOLDER

Each run is ``placerec evaluate --out RUNS_FOLDER/SET/METHOD``: a killed run resumes, and it has a
report.html. The answers do not depend on the ground truth, so one run is scored by several
protocols of its set. Keypoint re-rankers take 10 candidates of the default method's shortlist. Slow
methods answer a seeded list of 100 queries if a set has more. Every row states its number of
queries. The default method and NetVLAD are also scored on that list.

Models are fitted on the database photos alone, including distractors. Milliseconds are per query on
2 threads, from the file to the answer, the sum of the medians of the stages. Other work on the
machine makes them longer. Bytes are those of the stored descriptors, without the model.

The script writes results/methods.csv run by run, then the table in docs/BASELINES.md, the summary
in docs/MEASUREMENTS.md, and the short tables in README.md and docs/MODELS.md. It skips a run whose
rows exist; delete these rows to run it again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from table import ROOT, append_rows, page_table, read_rows, write_page

from placerec.evaluation.dataset import Dataset
from placerec.evaluation.layouts import open_dataset
from placerec.evaluation.methods import named_method
from placerec.evaluation.query_lists import sample_queries, with_distractors
from placerec.evaluation.run_folder import write_run_folder
from placerec.evaluation.runner import Run, evaluate
from placerec.evaluation.scoring.outcomes import outcomes
from placerec.evaluation.scoring.scores import scores
from placerec.models.resolve import AUTO
from placerec.runtime import Runtime
from placerec.training.run_folder import MODEL

TABLE = ROOT / "results" / "methods.csv"
PAGE, SUMMARY_PAGE = ROOT / "docs" / "BASELINES.md", ROOT / "docs" / "MEASUREMENTS.md"
FRONT_PAGE, FRONT = ROOT / "README.md", ("netvlad", "patch-netvlad", "default")
CHOICE_PAGE = ROOT / "docs" / "MODELS.md"
THREADS, LISTED = 2, 100
AT, STAGES = (1, 5, 10), ("encode", "search", "rerank")
# What a user has, what to give, what it needs, and the method whose figures stand beside it.
CHOICES = (
    ("photos, a laptop", "nothing: the default", "-", "default"),
    ("very little room", "`--method netvlad`", "-", "netvlad"),
    (
        "the paper's patches to study, on our trunk",
        "`--method patch-netvlad`",
        "extra `paper`",
        "patch-netvlad",
    ),
    (
        "the paper's network to study, without its training",
        "`--method paper-speed`",
        "extra `paper`, VGG16",
        "paper-speed",
    ),
    (
        "the paper's system to reproduce",
        "`--model mapillary-512`, or another name",
        "extras `download`, `paper`; 67 to 1133 MB",
        "",
    ),
    (
        "photos with positions, and a GPU or days (measured after the published 30 epochs)",
        "`--model` of `placerec train`",
        "extra `train`, VGG16",
        "paper-speed, trained here",
    ),
    (
        "a place of your own that is hard by night",
        "`--model` of `placerec adapt`",
        "extra `train`, 80 photos or more",
        "",
    ),
    (
        "a large or hard map, and time",
        "`index build --retriever megaloc`",
        "extras `download`, `torch` once; 914 MB",
        "",
    ),
    ("a network of your own", "`--model net.onnx`, or `--retriever net.onnx`", "the file", ""),
)


@dataclass(frozen=True)
class Set:
    """A folder, what joins its database, and the protocols that its answers are scored by.

    ``only``: the methods that are run here; none = all but those of ``without``.
    """

    name: str
    folder: str
    protocols: dict[str, dict[str, Any]] = field(default_factory=lambda: {"": {}})
    distractors: str = ""
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """A method by the names that ``placerec evaluate`` takes; ``listed``: at most 100 queries.

    ``trained``: with the model in RUNS_FOLDER/training, which ``training_run.py`` makes.
    ``small``: not 4096 dimensions but 512, which can be fitted on a thousand photos.
    """

    method: str
    rerank: str | None = None
    listed: bool = False
    trained: bool = False
    small: bool = False

    @property
    def label(self) -> str:
        """As tables show it."""
        label = f"{self.method} + {self.rerank}" if self.rerank else self.method
        label = f"{label}, 512 dimensions" if self.small else label
        return f"{label}, trained here" if self.trained else label


GSV = "gsv_cambridge_test"
PRESETS = (
    Asked("paper-storage", listed=True), Asked("paper-speed", listed=True),
    Asked("paper-performance", listed=True, small=True),
)  # fmt: skip
PAPER = (*PRESETS, *(replace(asked, trained=True) for asked in PRESETS))
SETS = (
    Set(GSV, GSV, {
        "25 m": {}, "strict": {"ground_truth": Path("ground_truth_strict.csv")},
        "25 m, 40 degrees": {"protocol": "coordinates", "radius": 25.0, "degrees": 40.0},
    }),
    Set(f"{GSV}, best of a panorama", GSV, {"25 m": {"photos_a_panorama": 4}},
        only=("netvlad", "default")),
    Set("corridor", "corridor"),
    Set("amos_day_night", "amos_day_night"),
    Set("amos_day_night + gsv_cambridge_train", "amos_day_night",
        distractors="gsv_cambridge_train/photos",
        without=tuple(asked.label for asked in PAPER)),  # hours of VGG16: see REPRODUCE.md, methods
)  # fmt: skip
METHODS = (
    Asked("vlad"),
    Asked("netvlad"),
    Asked("default"),
    Asked("default", "xfeat", listed=True),
    Asked("default", "aliked-lightglue", listed=True),
    Asked("densevlad"),
    Asked("patch-netvlad", listed=True),
    Asked("default", "disk-lightglue", listed=True),
    *PAPER,
)
MEASURES = tuple(
    f"{part}_{name}{end}" for part in ("global", "final") for name in (f"recall@{n}" for n in AT)
    for end in ("", "_low", "_high")
)  # fmt: skip
COLUMNS = ("set", "protocol", "hash", "queries", "method", "fitted_on", *MEASURES,
           *(f"ms_{stage}" for stage in STAGES), "bytes_per_photo")  # fmt: skip


def rows_of(data: Path, runs: Path, one: Set, asked: Asked) -> Iterator[dict[str, object]]:
    """Yield the rows of one run: one per protocol, and for FRONT also the list of 100 queries."""
    count = LISTED if asked.listed else None
    asks = sample_queries(open_all(data, one, next(iter(one.protocols.values()))), count)
    out = runs / one.name / asked.label
    model = runs / "training" / MODEL if asked.trained else AUTO
    method = named_method(
        asked.method, asked.rerank, model=model, runtime=Runtime(threads=THREADS),
        changes={"pca_dim": 512} if asked.small else None,
    )  # fmt: skip
    run = evaluate(asks, method, out=out, runtime=Runtime(threads=THREADS))
    write_run_folder(out, run, method, Runtime(threads=THREADS))
    for protocol, options in one.protocols.items():
        judged = open_all(data, one, options)
        counts = [LISTED if asked.listed else judged.queries]
        if asked.label in FRONT and not asked.listed and judged.queries > LISTED:
            counts.append(LISTED)
        for dataset in [sample_queries(judged, count) for count in counts]:
            yield {
                "set": one.name, "protocol": protocol, "hash": dataset.hash,
                "method": asked.label, "fitted_on": fitted_on(run), **measured(dataset, run),
            }  # fmt: skip


def open_all(data: Path, one: Set, options: dict[str, Any]) -> Dataset:
    """The set's photos, with its distractors, under one protocol."""
    dataset = open_dataset(data / one.folder, **options)
    return with_distractors(dataset, [data / one.distractors] if one.distractors else [])


def measured(dataset: Dataset, run: Run) -> dict[str, object]:
    """What the answers of ``run`` to the queries of ``dataset`` come to by its protocol."""
    names = {name for search in dataset.searches for name in search.queries.names}
    answers = {key: one for key, one in run.predictions.predictions.items() if key[1] in names}
    group = scores(dataset, outcomes(dataset, answers)).pooled
    told: dict[str, object] = {"queries": group.queries}
    for part, measures in (("global", group.retrieved), ("final", group.reranked)):
        for n in AT if measures else ():
            estimate = measures[f"recall@{n}"]
            for end, value in (
                ("", estimate.value),
                ("_low", estimate.low),
                ("_high", estimate.high),
            ):
                told[f"{part}_recall@{n}{end}"] = f"{value:.4f}"
    times = [one.milliseconds for one in run.predictions.predictions.values() if one.milliseconds]
    for stage in times[0]:
        told[f"ms_{stage}"] = f"{median(one[stage] for one in times):.1f}"
    return told | {"bytes_per_photo": f"{run.facts['bytes_per_photo']:.0f}"}


def fitted_on(run: Run) -> str:
    """What the parts of a method were trained or fitted on."""
    parts = next(iter(run.facts["searches"].values())).values()
    return "; ".join(dict.fromkeys(part["training_data"] for part in parts))


def markdown(rows: list[dict[str, str]]) -> str:
    """The table as it stands on the page: the final ranking, and the global one before it."""
    head = ("set", "queries", "method", "global R@1", "R@1", "R@5", "R@10", "ms per query",
            "bytes per photo")  # fmt: skip
    lines: list[list[str]] = []
    order = [one.name for one in SETS]
    for row in sorted(rows, key=lambda row: (order.index(row["set"]), row["protocol"])):
        part = "final" if row["final_recall@1"] else "global"
        lines.append([
            title(row["set"], row["protocol"]), row["queries"], row["method"],
            interval(row, "global"), interval(row, "final") if part == "final" else "-",
            *(f"{float(row[f'{part}_recall@{n}']):.3f}" for n in (5, 10)),
            f"{sum_of_stages(row):.0f}", row["bytes_per_photo"],
        ])  # fmt: skip
    return page_table(head, lines)


def summary(rows: list[dict[str, str]]) -> str:
    """The README's: a line a method and list, a column a set by its first protocol."""
    first = [(one.name, next(iter(one.protocols))) for one in SETS if not one.only]
    shown = [row for row in rows if (row["set"], row["protocol"]) in first]
    listed = {asked.label for asked in METHODS if asked.listed}
    head = ("method", *(title(*names) for names in first), "ms per query", "bytes per photo")
    lines: list[list[str]] = []
    for some in (False, True):  # all queries, then the lists of 100
        for asked in METHODS:
            mine = {
                (row["set"], row["protocol"]): row for row in shown
                if row["method"] == asked.label and (int(row["queries"]) == LISTED) == some
            }  # fmt: skip
            if not mine or ((asked.label in listed) != some and asked.label != "default"):
                continue
            times = sorted(sum_of_stages(row) for row in mine.values())
            sizes = sorted(int(row["bytes_per_photo"]) for row in mine.values())
            lines.append([
                f"{asked.label}, {LISTED} queries" if some else asked.label,
                *(recall_cell(mine.get(names)) for names in first),
                span(times[0], times[-1]), span(sizes[0], sizes[-1]),
            ])  # fmt: skip
    return page_table(head, lines)


def front(rows: list[dict[str, str]]) -> str:
    """The README's table: recall@1 on the lists of 100 queries."""
    lines = [(label, *cells) for label in FRONT if (cells := listed_cells(rows, label))]
    return page_table(("method", *listed_head()), lines)


def choice(rows: list[dict[str, str]]) -> str:
    """The table of docs/MODELS.md; a choice without a measured method has no figures."""
    head = ("you have", "give", "it needs", *listed_head())
    lines = [
        (*words, *(listed_cells(rows, label) or ["-"] * len(listed_head())))
        for *words, label in CHOICES
    ]
    return page_table(head, lines)


def listed_sets() -> list[tuple[str, str]]:
    """The sets without distractors that all methods answer, each with its first protocol."""
    own = [one for one in SETS if not one.only and not one.distractors]
    return [(one.name, next(iter(one.protocols))) for one in own]


def listed_head() -> list[str]:
    """The columns that ``listed_cells`` fills."""
    return [*(title(*names) for names in listed_sets()), "ms per query", "bytes per photo"]


def listed_cells(rows: list[dict[str, str]], label: str) -> list[str]:
    """Figures of a method on the lists of 100 queries; none if a set is not measured yet."""
    by_set = {
        (row["set"], row["protocol"]): row for row in rows
        if row["method"] == label and int(row["queries"]) == LISTED
    }  # fmt: skip
    chosen = [by_set[names] for names in listed_sets() if names in by_set]
    if len(chosen) < len(listed_sets()):
        return []
    times = sorted(map(sum_of_stages, chosen))
    sizes = sorted(int(row["bytes_per_photo"]) for row in chosen)
    recalls = (interval(row, "final" if row["final_recall@1"] else "global") for row in chosen)
    return [*recalls, span(times[0], times[-1]), span(sizes[0], sizes[-1])]


def title(name: str, protocol: str) -> str:
    """A set and its protocol; where a database has distractors, that they are fitted on too."""
    both = any(one.name == name and one.distractors for one in SETS)
    return ", ".join(filter(None, (name, protocol, both and "models fitted on both")))


def recall_cell(row: dict[str, str] | None) -> str:
    """Global recall@1, then recall@1 with its interval, @5 and @10 of the final ranking."""
    if row is None:
        return "-"
    part = "final" if row["final_recall@1"] else "global"
    before = f"{float(row['global_recall@1']):.3f} → " if part == "final" else ""
    rest = " / ".join(f"{float(row[f'{part}_recall@{n}']):.3f}" for n in (5, 10))
    return f"{before}{interval(row, part)} / {rest}"


def span(low: float, high: float) -> str:
    """One number, or the least and the most."""
    return f"{low:.0f}" if f"{low:.0f}" == f"{high:.0f}" else f"{low:.0f} to {high:.0f}"


def sum_of_stages(row: dict[str, str]) -> float:
    """Milliseconds of a query in all."""
    return sum(float(row[f"ms_{stage}"] or 0) for stage in STAGES)


def interval(row: dict[str, str], part: str) -> str:
    """recall@1 with its 95 % interval."""
    value, low, high = (float(row[f"{part}_recall@1{end}"]) for end in ("", "_low", "_high"))
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def write_pages() -> None:
    rows = read_rows(TABLE)
    write_page(PAGE, "methods", markdown(rows))
    write_page(SUMMARY_PAGE, "methods", summary(rows))
    write_page(FRONT_PAGE, "front", front(rows))
    write_page(CHOICE_PAGE, "choice", choice(rows))


def main() -> None:
    data, runs = Path(sys.argv[1]), Path(sys.argv[2])
    for asked in METHODS:  # the quick ones first
        for one in SETS:
            done = {(row["set"], row["method"]) for row in read_rows(TABLE)}
            left_out = asked.label in one.without or (one.only and asked.label not in one.only)
            if left_out or (one.name, asked.label) in done:
                continue
            append_rows(TABLE, COLUMNS, list(rows_of(data, runs, one, asked)))
            print(one.name, asked.label, "done", flush=True)
            write_pages()


if __name__ == "__main__":
    main()
