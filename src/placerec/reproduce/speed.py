"""Recall against time: PCA dimensions x sizes x scorer, time split (the paper's Figure 4).

Recall is of all queries of the list; times are of its first query with its candidates (``timing``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import TYPE_CHECKING

from placerec.reproduce.claims import Value, cell, verdict
from placerec.reproduce.folder import Row
from placerec.reproduce.keypoints import NAME as KEYPOINTS
from placerec.reproduce.keypoints import keypoint_reranker, keypoint_rows
from placerec.reproduce.plots import TextRow, recall_limits, series_of, style
from placerec.reproduce.scores import MULTI, SINGLE
from placerec.reproduce.study import Study
from placerec.reproduce.table import RECALLS, Table, size_label
from placerec.reproduce.timing import Stopwatch, fastest_ms, trunk_ms

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DIMS = (128, 512, 2048, 4096)
SCORERS = ("spatial", "ransac", "displacement")
ONE, THREE = size_label(SINGLE), size_label(MULTI)
# Seconds for 100 candidates of the published program (PyTorch, 2 threads, same class of machine).
PUBLISHED_SECONDS = {
    ("128", ONE, "spatial"): 0.4,
    ("512", ONE, "spatial"): 0.8,
    ("512", THREE, "ransac"): 2.9,
    ("4096", THREE, "ransac"): 14.4,
}
STAGES = ("trunk_ms", "describe_ms", "match_ms", "verify_ms")

LOAD_NOTE = (
    "Times are of one query with the candidates named in its row, on the threads named there, the "
    "best of 3; they vary with the machine's load, so compare rows of one run. Ours and the "
    "published operations in turn in one process: results/matching.csv."
)
RANSAC_NOTE = (
    "RANSAC is the same call of OpenCV in both; its time depends on how many matches there are and "
    "how many agree, so on the photos."
)
KEYPOINTS_NOTE = (
    "The paper has 4096-d three sizes RANSAC 3 % faster and 1.1 points better than SuperPoint + "
    f"SuperGlue. SuperGlue's weights are not free; {KEYPOINTS} stands for its kind, with 512 "
    "keypoints on a CPU."
)


def rows(study: Study) -> list[Row]:
    """NetVLAD, then every dimension, one and three sizes, and scorer on the same candidates.

    Recalls and times are kept apart: times that other work has disturbed can be taken again alone.
    """
    answered = study.result.once(f"{study.name}-recalls", partial(_recalls, study))
    times = study.result.once(f"{study.name}-times", partial(_times, study))
    found = [
        {**recall, "threads": study.options.threads, **spent,
         "total_ms": sum(spent[stage] for stage in STAGES)}
        for recall, spent in zip(answered, times, strict=True)
    ]  # fmt: skip
    reranker = keypoint_reranker(study.options.threads)
    if reranker is None:
        blank = {**study.label(), "method": KEYPOINTS, "threads": study.options.threads}
        return [*found, {**blank, **dict.fromkeys(RECALLS)}]
    compute = partial(keypoint_rows, study, reranker)
    return [*found, *study.result.once(f"{study.name}-keypoints", compute)]


def _dims(study: Study) -> list[int]:
    return [dim for dim in DIMS if dim < study.dimensions] + [study.dimensions]


def _recalls(study: Study) -> list[Row]:
    dims = _dims(study)
    scores = study.scores([(size, dim) for size in MULTI for dim in dims])
    found = [study.row(study.ranked(scores.lists), method="NetVLAD")]
    for dim in dims:
        for sizes, scorer in product((SINGLE, MULTI), SCORERS):
            ranked = study.ranked(scores.orders(scorer, sizes, dim))
            cells = {"sizes": size_label(sizes), "scorer": scorer, "dim": dim}
            found.append(study.row(ranked, method="re-ranked", **cells))
        scores.drop()
    return found


def _times(study: Study) -> list[Row]:
    """Milliseconds of each row of ``_recalls``, stage by stage, and on how many threads."""
    dims, retrieval = _dims(study), study.retrieval(study.model)
    threads = study.options.threads
    first = study.lists(study.model, [study.query_maps[0]])[0]
    watch, trunk = Stopwatch(study, study.model, first, MULTI, dims), trunk_ms(study)
    described = fastest_ms(lambda: retrieval.describe_map(study.query_maps[0]))
    found: list[Row] = [
        {"threads": threads, "trunk_ms": trunk, "describe_ms": described,
         "match_ms": 0.0, "verify_ms": 0.0}
    ]  # fmt: skip
    for dim, sizes in product(dims, (SINGLE, MULTI)):
        described = watch.describe_ms(sizes, dim)
        for scorer in SCORERS:
            spent = watch.spent(sizes, dim, scorer)
            found.append({"threads": threads, "trunk_ms": trunk, "describe_ms": described, **spent})
    return found


def notes(written: list[TextRow]) -> list[str]:
    """The paper's claims on time, and our matching beside the published program's."""
    ours = [row for row in written if row["method"] == "re-ranked"]
    answers = [LOAD_NOTE, *_beside_the_published(ours)]
    told = f"More dimensions, more recall (sizes {THREE}, RANSAC; the most above the fewest)"
    answers.append(verdict(told, ours, _extreme(max, THREE, "ransac"),
                           _extreme(min, THREE, "ransac")))  # fmt: skip
    for scorer in SCORERS:
        told = f"Three sizes above one size ({scorer}, most dimensions)"
        answers.append(verdict(told, ours, _extreme(max, THREE, scorer),
                               _extreme(max, ONE, scorer)))  # fmt: skip
    told = "Spatial takes less time to verify than RANSAC (three sizes, most dimensions)"
    answers.append(verdict(told, ours, _extreme(max, THREE, "ransac", "verify_ms"),
                           _extreme(max, THREE, "spatial", "verify_ms")))  # fmt: skip
    answers.append(KEYPOINTS_NOTE)
    rivals = {row["set"] for row in written if row["method"] == KEYPOINTS and row["recall@1"]}
    if rivals:
        both = [row for row in written if row["set"] in rivals]
        told, ransac = f"4096-d three sizes RANSAC (most dimensions) {{}} {KEYPOINTS}", "ransac"
        answers.append(verdict(told.format("above"), both, _extreme(max, THREE, ransac),
                               cell(method=KEYPOINTS)))  # fmt: skip
        answers.append(verdict(told.format("in less time than"), both,
                               cell("total_ms", method=KEYPOINTS),
                               _extreme(max, THREE, ransac, "total_ms")))  # fmt: skip
    return answers


def _extreme(
    pick: Callable[..., TextRow], sizes: str, scorer: str, column: str = "recall@1"
) -> Value:
    """A number of the variant with the most (or fewest) dimensions."""

    def value(mine: Sequence[TextRow]) -> float:
        some = [row for row in mine if (row["sizes"], row["scorer"]) == (sizes, scorer)]
        return float(pick(some, key=lambda row: int(row["dim"]))[column])

    return value


def _beside_the_published(ours: list[TextRow]) -> list[str]:
    told = []
    for row in ours:
        published = PUBLISHED_SECONDS.get((row["dim"], row["sizes"], row["scorer"]))
        if published is None:
            continue
        scale = 100 / int(row["candidates"]) * int(row["threads"]) / 2 / 1000
        match, verify = (scale * float(row[key]) for key in ("match_ms", "verify_ms"))
        answer = "not slower" if match + verify <= published else "slower"
        told.append(
            f"{row['set']}, {row['dim']}-d, sizes {row['sizes']}, {row['scorer']}: {match:.2f} s "
            f"to match and {verify:.2f} s to verify 100 candidates on 2 threads (measured on "
            f"{row['threads']}); the published program {published} s in all (PyTorch, 2 threads, "
            f"same class of machine): {answer}."
        )
    return [*told, RANSAC_NOTE] if told else []


def panel(axes: Axes, mine: list[TextRow]) -> None:
    """recall@1 against milliseconds; a line joins the dimensions of one variant."""
    values = []
    known = [row for row in mine if row["recall@1"]]
    labelled = [{**row, "series": _series(row)} for row in known]
    for number, (name, some) in enumerate(series_of(labelled, "series").items()):
        x = [float(row["total_ms"]) for row in some]
        y = [float(row["recall@1"]) for row in some]
        values += y
        axes.plot(x, y, label=name, linewidth=1, **style(number))  # type: ignore[arg-type]
        for row, left, up in zip(some, x, y, strict=True):
            axes.annotate(row["dim"], (left, up), fontsize=6, xytext=(2, 3),
                          textcoords="offset points")  # fmt: skip
    axes.set_xscale("log")
    recall_limits(axes, values)
    axes.set_xlabel(f"ms a query, {mine[0]['candidates']} candidates (log scale)")
    axes.set_ylabel("recall@1 (share of queries)")


def _series(row: TextRow) -> str:
    return f"{row['scorer']}, {row['sizes']}" if row["scorer"] else row["method"]


TABLE = Table(
    ("method", "sizes", "scorer", "dim", *RECALLS, "threads", *STAGES, "total_ms"),
    rows, notes, panel, MULTI, queries=50,
)  # fmt: skip
