"""How sure the answers of a run are: the numbers of a query, foreign photos, what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from score_support import data_set, predictions, ranking, town

from placerec.demo import demo_pose, render
from placerec.errors import NotFound, UsageError
from placerec.evaluation.exchange import export_predictions
from placerec.evaluation.geometry import as_positions, on_the_map, on_the_sphere
from placerec.evaluation.layouts import open_dataset
from placerec.evaluation.methods import Method, named_method
from placerec.evaluation.predictions import Prediction, read_predictions
from placerec.evaluation.run_folder import SCORES, read_run, write_run_folder
from placerec.evaluation.runner import PREDICTIONS, WORK, evaluate
from placerec.evaluation.scoring.outcomes import foreign_outcomes, outcomes
from placerec.evaluation.scoring.scores import scores
from placerec.index.calibrate import FEWEST_PHOTOS
from placerec.photos.sphere import distance
from placerec.recognise.recognizer import PlaceRecognizer
from placerec.records import Position
from placerec.runtime import Runtime
from plain_methods import MeanColour

SIZE = (120, 160)
QUERIES = ("night_0.png", "night_1.png", "black.png")


@pytest.fixture(scope="module")
def street(tmp_path_factory) -> Path:
    """As few day photos as can be calibrated, two night queries, and a query of one colour."""
    folder = tmp_path_factory.mktemp("sure") / "street"
    for side in ("database", "queries"):
        (folder / side).mkdir(parents=True)
    for place in range(FEWEST_PHOTOS):
        pixels = render(0, demo_pose(0, place, False), size=SIZE)
        Image.fromarray(pixels).save(folder / "database" / f"{place:02}.png")
    for place in range(2):
        pixels = render(0, demo_pose(0, place, True), night=True, size=SIZE)
        Image.fromarray(pixels).save(folder / "queries" / QUERIES[place])
    Image.new("RGB", SIZE[::-1]).save(folder / "queries" / QUERIES[2])
    truth = [f"{query},{n:02}.png\n" for n, query in enumerate(QUERIES)]
    (folder / "ground_truth.csv").write_text("query,database\n" + "".join(truth))
    table = [f"database/{place:02}.png,45,{10 + place / 1000}\n" for place in range(FEWEST_PHOTOS)]
    (folder / "coordinates.csv").write_text("image,latitude,longitude\n" + "".join(table))
    return folder


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory) -> Path:
    """Foreign photos: noise, and a file that is no photo."""
    folder = tmp_path_factory.mktemp("elsewhere")
    noise = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)
    Image.fromarray(noise).resize(SIZE[::-1]).save(folder / "noise.png")
    (folder / "broken.png").write_bytes(b"no photo")
    return folder


@pytest.fixture(scope="module")
def run(street, elsewhere, tmp_path_factory):
    """A finished run, stopped once among the foreign photos; its folder. Do not change it."""
    out, runtime = tmp_path_factory.mktemp("run") / "run", Runtime(threads=2)

    def stop(stage, done, total):
        assert not stage.startswith("asking") or total == len(QUERIES) + 2
        if stage.startswith("asking") and done == len(QUERIES) + 2:
            raise KeyboardInterrupt

    stopping = Runtime(threads=2, progress=stop)
    with pytest.raises(KeyboardInterrupt):
        evaluate(open_dataset(street), out=out, foreign=elsewhere, runtime=stopping)
    assert len(read_predictions(out / PREDICTIONS).foreign) == 1
    finished = evaluate(open_dataset(street), out=out, foreign=elsewhere, runtime=runtime)
    write_run_folder(out, finished)
    return out, finished


def test_a_run_is_as_sure_as_a_query(street, elsewhere, run):
    out, finished = run
    asked = {**finished.predictions.predictions, **finished.predictions.foreign}
    (index,) = (out / WORK).rglob("*.placerec")
    with PlaceRecognizer.open(index) as recognizer:
        at = [entry.position for entry in recognizer.index.entries]  # a margin needs them
        assert [position.longitude for position in at] == pytest.approx(
            [10 + place / 1000 for place in range(FEWEST_PHOTOS)]
        )
        for (_, name), predicted in asked.items():
            if name == "/foreign/broken.png":
                assert predicted.confidence is predicted.in_map is None
                continue
            foreign = name.startswith("/foreign/")
            path = elsewhere / name[9:] if foreign else street / "queries" / name
            answer = recognizer.query(path)
            assert predicted.in_map == answer.in_map
            if name == "black.png":  # nothing to recognise
                assert answer.places == ()
                assert predicted.confidence is None
                continue
            assert predicted.final[0][0] == answer.best.path
            assert predicted.confidence == pytest.approx(answer.best.confidence, rel=1e-6)
    assert asked["all", "night_0.png"].in_map
    assert finished.facts["notes"] == []
    assert "no_confidence" not in finished.facts


@pytest.mark.parametrize(
    "points",
    [on_the_sphere([Position(52.0, 0.1), Position(52.0001, 0.1003), Position(53.0, 0.1)]),
     on_the_map([400_000.0, 400_020.0, 400_000.0], [5_000_000.0, 5_000_011.0, 5_100_000.0], 31),
     on_the_map([400_000.0, 400_020.0, 400_000.0], [5_000_000.0, 5_000_011.0, 0.0],
                np.array([31, 31, 32]))],
)  # fmt: skip
def test_the_positions_of_an_index_are_as_far_apart_as_the_points(points):
    one, two, far, unknown = as_positions(np.vstack((points, [[np.nan] * 3])))
    assert unknown is None
    assert distance(one, two) == pytest.approx(np.linalg.norm(points[1] - points[0]), rel=1e-3)
    assert distance(one, far) > 90_000


def test_a_point_that_is_not_on_the_earth_has_no_position():
    points = on_the_map([0.0, 10.0, np.nan, 0.0], [0.0, 0.0, 0.0, 1e8])
    one, two, unknown, far = as_positions(points)
    assert distance(one, two) == pytest.approx(10.0)
    assert unknown is far is None


def test_foreign_photos_are_in_the_run_but_in_no_recall(run):
    out, finished = run
    pooled = finished.scores.pooled
    assert (pooled.queries, pooled.with_positive) == (3, 3)
    assert {outcome.query for outcome in finished.outcomes} == set(QUERIES)
    assert [error for error in finished.skipped if "broken.png" in error] == finished.skipped
    stored = json.loads((out / SCORES).read_text("utf-8"))["open_set"]
    assert stored["photos"] == 1
    confidence = finished.predictions.foreign["all", "/foreign/noise.png"].confidence
    assert stored["measures"]["foreign_in_map"]["value"] == 0.0
    assert stored["measures"]["auc_right_foreign"]["value"] == 1.0
    own = [outcome.confidence for outcome in finished.outcomes[1:]]
    assert min(own) > confidence
    assert read_run(out).outcomes == finished.outcomes
    pairs = out.parent / "pairs.txt"
    export_predictions(
        "hloc", finished.dataset, read_predictions(out / PREDICTIONS).predictions, pairs
    )
    assert "foreign" not in pairs.read_text("utf-8")
    text = "\n".join(finished.as_text())
    assert "confidence: calibration error 0." in text
    assert "with 1 foreign photos: called in the map 0.000" in text


def test_a_run_resumes_only_with_the_same_foreign_photos(street, elsewhere, run, tmp_path):
    out, finished = run
    before = (out / PREDICTIONS).read_bytes()
    copy = Path(shutil.copytree(elsewhere, tmp_path / "copy"))
    again = evaluate(open_dataset(street), out=out, foreign=copy, runtime=Runtime(threads=2))
    assert again.scores.as_json() == finished.scores.as_json()
    (copy / "noise.png").rename(copy / "other.png")
    for foreign in (None, copy):
        with pytest.raises(UsageError, match="made with another foreign_photos"):
            evaluate(open_dataset(street), out=out, foreign=foreign, runtime=Runtime(threads=2))
    assert (out / PREDICTIONS).read_bytes() == before


def test_a_photo_of_the_set_is_not_foreign(street, tmp_path):
    with pytest.raises(UsageError, match=r"black.png: is the query .*remove it from the foreign"):
        evaluate(open_dataset(street), foreign=street / "queries")
    with pytest.raises(NotFound, match="no photo in it"):
        evaluate(open_dataset(street), foreign=tmp_path)


def test_foreign_photos_are_refused_without_ground_truth(street, elsewhere):
    dataset = open_dataset(street)
    hidden = replace(dataset, protocol=replace(dataset.protocol, hidden=True))
    with pytest.raises(UsageError, match="foreign: of street the owner keeps the truth"):
        evaluate(hidden, foreign=elsewhere)


def test_a_foreign_photo_is_one_place_whatever_searches_were_asked():
    data = data_set(*(town([{n} for n in range(12)], 12, name) for name in "ab"))
    answers = predictions(data, *([n] for n in [*range(12)] * 2))
    sure = {key: replace(answer, confidence=0.9, in_map=True) for key, answer in answers.items()}
    foreign = {
        (search, "/foreign/x.jpg"): Prediction(
            search, "/foreign/x.jpg", ranking([0]), None, {}, "", 0.1, search == "b"
        )
        for search in "ab"
    }
    open_set = scores(data, outcomes(data, sure), foreign_outcomes(foreign)).open_set
    called = open_set.measures["foreign_in_map"]
    assert (open_set.photos, called.value, called.low, called.high) == (1, 0.5, 0.5, 0.5)
    assert called.doubt == "rests on 1 independent places only"


@pytest.mark.parametrize(
    "method",
    [Method(MeanColour(), None, 0), named_method("netvlad"),
     named_method("default", changes={"candidates": 5}), named_method("default", "none")],
)  # fmt: skip
def test_foreign_photos_are_refused_where_no_answer_has_a_confidence(
    street, elsewhere, method, tmp_path
):
    with pytest.raises(UsageError, match=r"has none \(only the default method has one"):
        evaluate(open_dataset(street), method, out=tmp_path / "run", foreign=elsewhere)
    assert not (tmp_path / "run").exists()
