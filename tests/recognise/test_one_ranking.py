"""There is one ranking: what ``query`` serves equals what ``evaluate`` scores."""

import shutil
from pathlib import Path

import pytest

from placerec.evaluation.layouts import open_dataset
from placerec.evaluation.methods import own_method
from placerec.evaluation.runner import evaluate
from placerec.index.build import build_index
from placerec.recognise import PlaceRecognizer
from placerec.settings import METHODS

CORRIDOR = Path(__file__).parents[3] / "shared" / "data" / "corridor"
EVERY = 9  # frames between two photos of the corridor
QUERIES = 3
CANDIDATES = 4  # fewer than the photos of the database
TRUNK = "efficientnet-lite0"  # ships in the package; the methods of the paper accept it too
SMALL = {"image_size": (160, 224), "clusters": 8, "global_dim": 5}


@pytest.fixture(scope="module")
def folder(town, tmp_path_factory) -> Path:
    """A data set of some real photos of a corridor, or of the drawn town if they are absent."""
    if not CORRIDOR.is_dir():
        return town
    copy = tmp_path_factory.mktemp("corridor")
    names = sorted(path.name for path in (CORRIDOR / "database").iterdir())[::EVERY]
    for side, chosen in (("database", names), ("queries", names[::QUERIES])):
        (copy / side).mkdir()
        for name in chosen:
            shutil.copy(CORRIDOR / side / name, copy / side)
    lines = ["query,database", *(f"{name},{name}" for name in names[::QUERIES])]
    (copy / "ground_truth.csv").write_text("\n".join(lines) + "\n")
    return copy


def small_settings(method: str):
    settings = METHODS[method]
    changes = {**SMALL, "k_patch": 8, "pca_dim": 5 if settings.form == "published" else 12}
    candidates = CANDIDATES if settings.candidates else 0
    return settings.replace(**changes, candidates=candidates)


def ranking(places, score):
    """The names and scores of served places; a run stores scores with 7 digits."""
    return tuple((place.path, float(f"{getattr(place, score):.7g}")) for place in places)


@pytest.mark.parametrize("method", METHODS)
def test_a_served_ranking_equals_the_evaluated_one(method, folder, tmp_path):
    settings = small_settings(method)
    if settings.scorer == "ransac" and settings.reranks:
        pytest.importorskip("cv2")
    dataset = open_dataset(folder)
    run = evaluate(dataset, own_method(method, TRUNK, settings))
    index = tmp_path / "served.placerec"
    report = build_index(index, folder / "database", model=TRUNK, settings=settings)
    photos = report.added
    assert photos > CANDIDATES
    (search,) = dataset.searches
    with (
        PlaceRecognizer.open(index, **settings.group("query")) as served,
        PlaceRecognizer.open(index, candidates=0) as retrieving,
    ):
        for name, path in zip(search.queries.names, search.queries.paths, strict=True):
            prediction = run.predictions.predictions[search.name, name]
            final = ranking(served.query(path, top=photos).places, "score")
            retrieved = ranking(retrieving.query(path, top=photos).places, "global_score")
            assert len(final) == photos
            assert prediction.retrieved == retrieved
            assert (prediction.reranked or prediction.retrieved) == final
            assert (prediction.reranked is not None) == settings.reranks
