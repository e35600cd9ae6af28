"""Methods x data sets: recall of retrieval and of re-ranking (the paper's Table 1).

Every method is fitted on the database photos alone and answers the same queries, each with its own
retrieval. A method without weights, or with seeded weights only, shows no recall.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise

from placerec.evaluation.dataset import Dataset, Protocol
from placerec.evaluation.methods import Method, Own, named_method, own_method
from placerec.evaluation.runner import evaluate
from placerec.evaluation.scoring.metrics import recalls
from placerec.reproduce.folder import Row, TextRow
from placerec.reproduce.plots import Axes, bars
from placerec.reproduce.study import Study
from placerec.reproduce.table import MULTI, RECALLS, Table, cell, verdict
from placerec.reproduce.timing import KEYPOINTS, keypoint_reranker
from placerec.settings import METHODS

INDEXED = ("netvlad", "default", "patch-netvlad")  # answered by an index, as in `evaluate`
PAPER = ("paper-storage", "paper-speed", "paper-performance")
WITHOUT_WEIGHTS = ("published Mapillary weights",)
SEEDED = "none: seeded weights"  # how the training data of an untrained model begin
GLOBAL = tuple(f"global_{name}" for name in RECALLS)

NOTE = (
    "Recall is of the queries named in the row; '-' means that there are no trained or fitted "
    "weights. The paper's presets share one NetVLAD shortlist."
)


def rows(study: Study) -> list[Row]:
    """Our methods through an index, a keypoint re-ranker, and the paper's presets."""
    compared: dict[str, Method] = {}
    for name in INDEXED:
        settings = METHODS[name].replace(image_size=study.parameters.image_size)
        count = study.candidates if settings.reranks else 0
        compared[name] = own_method(name, settings.trunk, settings.replace(candidates=count))
    reranker = keypoint_reranker(study.runtime.cores)
    if reranker is not None:
        retrieval = named_method("netvlad").retrieval
        compared[KEYPOINTS] = Method(retrieval, reranker, study.candidates)
    table: list[Row] = []
    for name, method in compared.items():
        table += study.result.once(f"{study.name}-{name}", partial(_evaluated, study, name, method))
    # A model file may hold the published weights, so they are not reported as absent then.
    absent = [*WITHOUT_WEIGHTS] if study.opened.model is None else []
    absent += [KEYPOINTS] if reranker is None else []
    blank = [{**study.label, "method": name, "weights": "none here"} for name in absent]
    return [*table, *_paper(study), *blank]


def _evaluated(study: Study, name: str, method: Method) -> list[Row]:
    """One row: the recalls that ``placerec evaluate`` measures on the query list."""
    rule = Protocol("reproduce", "that of the data set")
    dataset = Dataset(study.name, rule, (study.search,))
    answers = study.search.answers
    run = evaluate(dataset, method, runtime=study.runtime)
    predictions = run.predictions.predictions.values()
    retrieved = {p.query: [photo for photo, _ in p.retrieved] for p in predictions}
    reranked: Row = {}
    if method.reranking is not None:
        ranked = {p.query: [photo for photo, _ in p.reranked or ()] for p in predictions}
        reranked = dict(recalls(ranked, answers))
    own = method.retrieval if isinstance(method.retrieval, Own) else None
    return [{
        **study.label, "method": name, "trunk": own and own.settings.trunk,
        "weights": "trained" if name == KEYPOINTS else "fitted", "scorer": method.scorer,
        **_global(recalls(retrieved, answers)), **reranked,
    }]  # fmt: skip


def _paper(study: Study) -> list[Row]:
    """The paper's presets on one shortlist, re-ranked with their own sizes and scorers."""
    ready = study.opened.model is not None
    common = {"trunk": study.opened.trunk.name, "weights": "given" if ready else "fitted"}
    if study.model.training_data.startswith(SEEDED):  # a fitted PCA does not change this
        common["weights"] = "seeded"
        return [{**study.label, "method": name, **common} for name in PAPER]
    presets = [METHODS[name] for name in PAPER]
    shortlist, *table = study.variant_rows(
        [(p.patch_sizes, min(p.pca_dim, study.dimensions), p.scorer) for p in presets]
    )
    common |= _global(shortlist)
    return [{**row, **common, "method": name} for row, name in zip(table, PAPER, strict=True)]


def _global(recall: Row) -> Row:
    return {f"global_{name}": recall[name] for name in RECALLS}


def notes(written: list[TextRow]) -> list[str]:
    """Compare re-ranking with its own retrieval, and check the order of the presets."""
    shown = [row for row in written if row["recall@1"]]
    names = {row["method"] for row in shown}
    answers = [NOTE]
    for name in [name for name in (*INDEXED, *PAPER) if name in names]:
        claim = f"{name}: re-ranking is above its own retrieval (recall@1)"
        answers.append(verdict(claim, shown, cell(method=name), cell(GLOBAL[0], method=name)))
    for low, high in pairwise(name for name in PAPER if name in names):
        claim = f"{low} < {high} (recall@1)"
        answers.append(verdict(claim, shown, cell(method=high), cell(method=low)))
    return answers


def panel(axes: Axes, rows: list[TextRow]) -> None:
    """recall@1 of each method, retrieval and re-ranked."""
    shown = [row for row in rows if row[GLOBAL[0]]]
    series = {
        label: [float(row[column]) if row[column] else None for row in shown]
        for label, column in (("retrieval", GLOBAL[0]), ("re-ranked", RECALLS[0]))
    }
    bars(axes, [row["method"] for row in shown], series, "method")


TABLE = Table(
    ("method", "trunk", "weights", "scorer", "dim", *GLOBAL, *RECALLS), rows, notes, panel,
    MULTI, queries=50,
)  # fmt: skip
