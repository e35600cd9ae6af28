"""Methods x data sets: global and re-ranked recall (the paper's Table 1).

Every method is fitted on the database photos alone and answers the same queries, each with its own
retrieval. A method whose weights are only seeded, or that is not here, shows no recall.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

from placerec.evaluation.dataset import Dataset, Protocol
from placerec.evaluation.methods import Method, Own, named_method, own_method
from placerec.evaluation.runner import evaluate
from placerec.evaluation.scoring.metrics import RECALL_AT, recalls
from placerec.reproduce.claims import cell, verdict
from placerec.reproduce.folder import Row
from placerec.reproduce.keypoints import NAME as KEYPOINTS
from placerec.reproduce.keypoints import keypoint_reranker
from placerec.reproduce.plots import TextRow, bars
from placerec.reproduce.scores import MULTI
from placerec.reproduce.study import Study
from placerec.reproduce.table import RECALLS, Table
from placerec.settings import METHODS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BY_INDEX = ("netvlad", "default", "patch-netvlad")  # as `placerec evaluate --method` has them
PAPER = ("paper-storage", "paper-speed", "paper-performance")
WITHOUT_WEIGHTS = ("published Mapillary weights",)
SEEDED = "none: seeded weights"  # the training data of a model that has not learnt anything
GLOBAL = tuple(f"global_{name}" for name in RECALLS)

NOTE = (
    "Recall is of the queries named in the row; '-' stands where there are no trained or fitted "
    "weights. The paper's presets share one NetVLAD shortlist."
)


def rows(study: Study) -> list[Row]:
    """Our methods through an index, a keypoint re-ranker, the paper's presets on ``--model``."""
    found: list[Row] = []
    for name in BY_INDEX:
        settings = METHODS[name].replace(image_size=study.options.image_size)
        count = study.candidates if settings.reranks else 0
        method = own_method(name, settings.trunk, settings.replace(candidates=count))
        found += study.result.once(f"{study.name}-{name}", partial(_evaluated, study, name, method))
    absent = [_blank(study, method=name, weights="none here") for name in WITHOUT_WEIGHTS]
    if study.subject.ready is not None:
        absent = []  # perhaps these are the ones
    reranker = keypoint_reranker(study.options.threads)
    if reranker is None:
        absent.append(_blank(study, method=KEYPOINTS, weights="none here"))
    else:
        netvlad = named_method("netvlad").retrieval
        method = Method(netvlad, reranker, study.candidates)
        compute = partial(_evaluated, study, KEYPOINTS, method)
        found += study.result.once(f"{study.name}-{KEYPOINTS}", compute)
    return [*found, *_paper(study), *absent]


def _evaluated(study: Study, name: str, method: Method) -> list[Row]:
    """As ``placerec evaluate`` has it, on the query list."""
    rule = Protocol("reproduce", "as the data set says")
    dataset = Dataset(study.name, rule, (study.data,)).with_queries(study.queries, "list")
    run = evaluate(dataset, method, threads=study.options.threads, progress=study.progress)
    answers = run.predictions.predictions.values()
    retrieved = {one.query: [photo for photo, _ in one.retrieved] for one in answers}
    reranked: Row = dict.fromkeys(RECALLS)
    if method.reranking is not None:
        ranked = {one.query: [photo for photo, _ in one.reranked or ()] for one in answers}
        reranked = dict(recalls(ranked, study.data.answers))
    own = method.retrieval if isinstance(method.retrieval, Own) else None
    return [{
        **study.label(), "method": name, "trunk": own and own.settings.trunk,
        "weights": "trained" if name == KEYPOINTS else "fitted", "scorer": method.scorer,
        **_global(recalls(retrieved, study.data.answers)), **reranked,
    }]  # fmt: skip


def _paper(study: Study) -> list[Row]:
    """The paper's presets on one list of candidates, re-ranked by their own sizes and scorers."""
    model = study.model
    wanted = {}
    for name in PAPER:
        dim = min(METHODS[name].pca_dim, study.dimensions)
        wanted[name] = (METHODS[name], dim)
    kinds = {(size, dim) for preset, dim in wanted.values() for size in preset.patch_sizes}
    ready = study.subject.ready is not None
    common = {"trunk": study.trunk.name, "weights": "given" if ready else "fitted"}
    if model.training_data.startswith(SEEDED):  # whatever was fitted on top
        common["weights"] = "seeded"
        return [_blank(study, method=name, **common) for name in PAPER]
    scores = study.scores(sorted(kinds))
    found = []
    for name, (preset, dim) in wanted.items():
        ranked = study.ranked(
            scores.orders(preset.scorer, preset.patch_sizes, dim, preset.scale_weights)
        )
        netvlad = study.row(study.ranked(scores.lists))
        cells = {"method": name, "scorer": preset.scorer, "dim": dim, **common, **_global(netvlad)}
        found.append(study.row(ranked, **cells))
    return found


def _global(found: Row) -> Row:
    return {f"global_{name}": found[name] for name in RECALLS}


def _blank(study: Study, **cells: object) -> Row:
    return {**study.label(), **cells}


def notes(written: list[TextRow]) -> list[str]:
    """Re-ranking against its own retrieval, and the order of the presets."""
    shown = [row for row in written if row["recall@1"]]
    known = {row["method"] for row in shown}
    answers = [NOTE]
    for name in [name for name in (*BY_INDEX, *PAPER) if name in known]:
        told = f"{name}: re-ranking is above its own retrieval (recall@1)"
        answers.append(verdict(told, shown, cell(method=name), cell(GLOBAL[0], method=name)))
    for low, high in pairwise(name for name in PAPER if name in known):
        told = f"{low} < {high} (recall@1)"
        answers.append(verdict(told, shown, cell(method=high), cell(method=low)))
    return answers


def panel(axes: Axes, mine: list[TextRow]) -> None:
    """recall@1 of each method, retrieval and re-ranked."""
    known = [row for row in mine if row[GLOBAL[0]]]
    bars(
        axes, [row["method"] for row in known],
        {"retrieval": [_number(row, GLOBAL[0]) for row in known],
         "re-ranked": [_number(row, RECALLS[0]) for row in known]},
        f"recall@{RECALL_AT[0]} (share of queries)",
    )  # fmt: skip
    axes.set_xlabel("method")


def _number(row: TextRow, key: str) -> float | None:
    return float(row[key]) if row[key] else None


TABLE = Table(
    ("method", "trunk", "weights", "scorer", "dim", *GLOBAL, *RECALLS), rows, notes, panel,
    MULTI, queries=50,
)  # fmt: skip
