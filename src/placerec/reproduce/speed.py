"""Recall against time: PCA dimensions x sizes x scorer, time per stage (the paper's Figure 4).

Recall is of all queries of the list; times are of its first query with its candidates (``timing``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product

from placerec.reproduce.folder import Row, TextRow
from placerec.reproduce.matches import Variant
from placerec.reproduce.plots import RECALL_1, Axes, series_of, style
from placerec.reproduce.study import Study
from placerec.reproduce.table import (
    MULTI,
    ONE,
    RECALLS,
    SCORERS,
    SINGLE,
    THREE,
    Table,
    Value,
    cell,
    verdicts,
)
from placerec.reproduce.timing import (
    KEYPOINTS,
    fastest_ms,
    keypoint_reranker,
    keypoint_rows,
    query_times,
    trunk_ms,
)

DIMS = (128, 512, 2048, 4096)
# Seconds for 100 candidates of the published program (PyTorch, 2 threads, same class of machine).
PUBLISHED_SECONDS = {
    ("128", ONE, "spatial"): 0.4,
    ("512", ONE, "spatial"): 0.8,
    ("512", THREE, "ransac"): 2.9,
    ("4096", THREE, "ransac"): 14.4,
}
STAGES = ("trunk_ms", "describe_ms", "match_ms", "verify_ms")

LOAD_NOTE = (
    "Times are of one query with the number of candidates and threads in its row, best of 3. They "
    "depend on the machine's load, so compare the rows of one run. docs/SPEED.md compares ours "
    "and the published operations in turn in one process."
)
RANSAC_NOTE = (
    "The time of RANSAC depends on the photos: on the number of matches and on how many of them "
    "agree."
)
KEYPOINTS_NOTE = (
    "In the paper, 4096-d three sizes RANSAC is 3 % faster and 1.1 points better than SuperPoint + "
    f"SuperGlue. SuperGlue's weights are not free; {KEYPOINTS} replaces it here, with 512 "
    "keypoints on a CPU."
)


def rows(study: Study) -> list[Row]:
    """NetVLAD, then every dimension, one and three sizes, and scorer on the same candidates.

    Recalls and times are stored separately, so that disturbed times can be measured again alone.
    """
    once, name, threads = study.result.once, study.name, study.runtime.cores
    recalls = once(f"{name}-recalls", lambda: study.variant_rows(_variants(study)))
    times = once(f"{name}-times", partial(_times, study))
    table = [{**recall, **time} for recall, time in zip(recalls, times, strict=True)]
    reranker = keypoint_reranker(threads)
    if reranker is None:
        return [*table, {**study.label, "method": KEYPOINTS, "threads": threads}]
    return table + once(f"{name}-keypoints", partial(keypoint_rows, study, reranker))


def _variants(study: Study) -> list[Variant]:
    """Dimensions x sizes x scorer; the last dimension is the largest that the model has."""
    dims = [dim for dim in DIMS if dim < study.dimensions] + [study.dimensions]
    return [(sizes, dim, scorer) for dim, sizes, scorer in product(dims, (SINGLE, MULTI), SCORERS)]


def _times(study: Study) -> list[Row]:
    """The milliseconds per stage of each row, and the number of threads."""
    query, retrieval = study.query_maps[0], study.retrieval(study.model)
    common = {"threads": study.runtime.cores, "trunk_ms": trunk_ms(study)}
    described = fastest_ms(partial(retrieval.describe_map, query))
    netvlad = {"describe_ms": described, "match_ms": 0.0, "verify_ms": 0.0}
    (candidates,) = study.shortlists(study.model, [query])
    reranked = query_times(study, study.model, candidates, _variants(study))
    return [
        {**common, **times, "total_ms": common["trunk_ms"] + sum(times.values())}
        for times in (netvlad, *reranked)
    ]


def notes(written: list[TextRow]) -> list[str]:
    """Check the paper's claims on time, and compare our times with the published program's."""
    ours = [row for row in written if row["method"] == "re-ranked"]
    ransac = _extreme(max, THREE, "ransac")
    claims = [
        (f"More dimensions, more recall (sizes {THREE}, RANSAC; the most above the fewest)",
         ransac, _extreme(min, THREE, "ransac")),
        *((f"Three sizes above one size ({scorer}, most dimensions)",
           _extreme(max, THREE, scorer), _extreme(max, ONE, scorer)) for scorer in SCORERS),
        ("Spatial takes less time to verify than RANSAC (three sizes, most dimensions)",
         _extreme(max, THREE, "ransac", "verify_ms"), _extreme(max, THREE, "spatial", "verify_ms")),
    ]  # fmt: skip
    rivals = {row["set"] for row in written if row["method"] == KEYPOINTS and row["recall@1"]}
    both = [row for row in written if row["set"] in rivals]
    name = "4096-d three sizes RANSAC (most dimensions)"
    rival_claims = [
        (f"{name} above {KEYPOINTS}", ransac, cell(method=KEYPOINTS)),
        (f"{name} in less time than {KEYPOINTS}", cell("total_ms", method=KEYPOINTS),
         _extreme(max, THREE, "ransac", "total_ms")),
    ]  # fmt: skip
    lines = [LOAD_NOTE, *_published_times(ours), *verdicts(ours, claims), KEYPOINTS_NOTE]
    return [*lines, *verdicts(both, rival_claims)] if rivals else lines


def _extreme(
    pick: Callable[..., TextRow], sizes: str, scorer: str, column: str = "recall@1"
) -> Value:
    """A number of the variant with the most (or fewest) dimensions."""

    def value(rows: Sequence[TextRow]) -> float:
        variants = [row for row in rows if (row["sizes"], row["scorer"]) == (sizes, scorer)]
        return float(pick(variants, key=lambda row: int(row["dim"]))[column])

    return value


def _published_times(rows: list[TextRow]) -> list[str]:
    """Our times, scaled to 100 candidates on 2 threads, beside those of the published program."""
    lines = []
    for row in rows:
        published = PUBLISHED_SECONDS.get((row["dim"], row["sizes"], row["scorer"]))
        if published is None:
            continue
        scale = 100 / int(row["candidates"]) * int(row["threads"]) / 2 / 1000
        match, verify = (scale * float(row[key]) for key in ("match_ms", "verify_ms"))
        answer = "not slower" if match + verify <= published else "slower"
        lines.append(
            f"{row['set']}, {row['dim']}-d, sizes {row['sizes']}, {row['scorer']}: {match:.2f} s "
            f"to match and {verify:.2f} s to verify 100 candidates on 2 threads (measured on "
            f"{row['threads']}); the published program {published} s in all (PyTorch, 2 threads, "
            f"same class of machine): {answer}."
        )
    return [*lines, RANSAC_NOTE] if lines else []


def panel(axes: Axes, rows: list[TextRow]) -> None:
    """recall@1 against milliseconds; a line joins the dimensions of one variant."""
    shown = [
        {**row, "name": f"{row['scorer']}, {row['sizes']}" if row["scorer"] else row["method"]}
        for row in rows if row["recall@1"]
    ]  # fmt: skip
    for number, (name, line) in enumerate(series_of(shown, "name").items()):
        points = [(float(row["total_ms"]), float(row["recall@1"])) for row in line]
        axes.plot(*zip(*points, strict=True), label=name, linewidth=1, **style(number))
        for row, point in zip(line, points, strict=True):
            axes.annotate(row["dim"], point, fontsize=6, xytext=(2, 3),
                          textcoords="offset points")  # fmt: skip
    recalls = [float(row["recall@1"]) for row in shown]
    label = f"ms per query, {rows[0]['candidates']} candidates (log scale)"
    axes.set_ylim(max(0.0, min(recalls) - 0.1), min(1.02, max(recalls) + 0.05))
    axes.set(xscale="log", xlabel=label, ylabel=RECALL_1)


TABLE = Table(
    ("method", "sizes", "scorer", "dim", *RECALLS, "threads", *STAGES, "total_ms"),
    rows, notes, panel, MULTI, queries=50,
)  # fmt: skip
