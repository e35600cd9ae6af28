"""A photo that says nothing has no answer, and is no answer."""

import numpy as np
import pytest
from PIL import Image

from placerec.errors import PlacerecError
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
        place, _ = match_photos(*pair, settings=Settings(scorer=scorer))
        assert (place.score, place.global_score, place.inliers) == (0, 0, 0)
