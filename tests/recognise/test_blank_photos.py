"""A photo that says nothing has no answer, and is no answer."""

import numpy as np
import pytest
from PIL import Image

from placerec.errors import PlacerecError
from placerec.evaluation.layouts import open_dataset
from placerec.evaluation.methods import own_method
from placerec.evaluation.runner import evaluate
from placerec.index.build import build_index
from placerec.models.resolve import generic_model
from placerec.recognise.pair import match_photos
from placerec.recognise.recognizer import PlaceRecognizer
from placerec.settings import Settings

BLANK = {
    "black": np.zeros((120, 160, 3), np.uint8),
    "white": np.full((120, 160, 3), 255, np.uint8),
    "blue": np.full((120, 160, 3), (10, 20, 200), np.uint8),
    "pixel": np.full((1, 1, 3), 90, np.uint8),
    "covered": np.random.default_rng(1).normal(9, 3, (480, 640, 3)).clip(0, 255).astype(np.uint8),
}

SMALL = (160, 224)  # pixels
PARTLY = {"black.png": BLANK["black"], "white.png": BLANK["white"]}


@pytest.fixture(scope="module")
def with_blanks(town, tmp_path_factory):
    """The town with two blank photos in its database."""
    folder = tmp_path_factory.mktemp("blanks") / "town"
    for side in ("database", "queries"):
        (folder / side).mkdir(parents=True)
        for photo in sorted((town / side).iterdir())[:4]:
            (folder / side / photo.name).symlink_to(photo)
    lines = (town / "ground_truth.csv").read_text().splitlines()
    (folder / "ground_truth.csv").write_text("\n".join(lines[:5]) + "\n")
    for name, pixels in PARTLY.items():
        Image.fromarray(pixels).save(folder / "database" / name)
    small = Settings(image_size=SMALL)
    build_index(folder.parent / "a.placerec", folder / "database", settings=small)
    return folder


@pytest.mark.parametrize("kind", BLANK)
def test_a_query_without_structure_has_no_answer(kind, town_index, tmp_path):
    with PlaceRecognizer.open(town_index) as recognizer:
        answer = recognizer.query(BLANK[kind])
        Image.fromarray(BLANK[kind]).save(tmp_path / "dark.png")
        assert recognizer.query(tmp_path / "dark.png").places == ()
    assert (answer.places, answer.note) == ((), "nothing to recognise")
    with pytest.raises(PlacerecError, match="the photo: nothing to recognise"):
        answer.best  # noqa: B018


def test_a_photo_without_structure_has_descriptors_of_zeros(town):
    model = generic_model()
    features = model.describe(BLANK["black"])
    assert not features.global_descriptor.any()
    assert [len(patches.descriptors) for patches in features.patches] == [300]
    assert not any(patches.descriptors.any() for patches in features.patches)
    seen = model.describe(model.read(town / "database" / "place_000.jpg").pixels)
    assert np.linalg.norm(seen.global_descriptor) == pytest.approx(1)


@pytest.mark.parametrize("scorer", ["displacement", "spatial", "ransac"])
def test_photos_without_structure_do_not_match(scorer, town, tmp_path):
    Image.fromarray(BLANK["black"]).save(tmp_path / "black.png")
    Image.fromarray(BLANK["white"]).save(tmp_path / "white.png")
    black, photo = tmp_path / "black.png", town / "database" / "place_000.jpg"
    for pair in ((black, photo), (photo, black), (black, black), (black, tmp_path / "white.png")):
        place, _ = match_photos(*pair, settings=Settings(scorer=scorer, image_size=SMALL))
        assert place.score < 0.02
        assert (place.global_score, place.inliers) == (0, 0)


@pytest.mark.parametrize("changes", [{}, {"candidates": 0}, {"scorer": "spatial"}])
def test_a_photo_without_structure_is_never_an_answer(changes, with_blanks):
    with PlaceRecognizer.open(with_blanks.parent / "a.placerec", **changes) as recognizer:
        assert len(recognizer.index.entries) == 6
        for top, expected in ((1, 1), (3, 3), (6, 4), (99, 4)):
            places = recognizer.query(with_blanks / "queries" / "night_000.jpg", top).places
            assert [place.rank for place in places] == list(range(1, expected + 1))
            assert {place.path for place in places}.isdisjoint(PARTLY)


def test_an_evaluation_ranks_every_photo_and_the_others_as_served(with_blanks):
    dataset = open_dataset(with_blanks)
    run = evaluate(dataset, own_method("default", "auto", Settings(image_size=SMALL)))
    (search,) = dataset.searches
    with PlaceRecognizer.open(with_blanks.parent / "a.placerec") as recognizer:
        for name, path in zip(search.queries.names, search.queries.paths, strict=True):
            ranked = run.predictions.predictions[search.name, name].reranked
            assert len(ranked) == 6
            served = [
                (place.path, float(f"{place.score:.7g}")) for place in recognizer.query(path).places
            ]
            assert served == [entry for entry in ranked if entry[0] not in PARTLY]


def test_an_index_of_blank_photos_alone_has_no_answer(town, tmp_path):
    (tmp_path / "dark").mkdir()
    Image.fromarray(BLANK["black"]).save(tmp_path / "dark" / "a.png")
    build_index(tmp_path / "a.placerec", tmp_path / "dark")
    with PlaceRecognizer.open(tmp_path / "a.placerec") as recognizer:
        answer = recognizer.query(town / "queries" / "night_000.jpg")
    assert answer.places == ()
    assert answer.note == "no photo of the index can be recognised"
