"""The published form loses nothing on its way through an index: every bit is kept as float32."""

import json
from dataclasses import replace

import numpy as np
import pytest

from placerec.index import IndexReader
from placerec.index.build import build_index
from placerec.index.update import add_photos
from placerec.method.pca import Projection
from placerec.method.vlad import Vocabulary
from placerec.models.model import Fitted, Model
from placerec.models.model_file import save_model
from placerec.recognise import PlaceRecognizer, match_photos
from placerec.settings import METHODS
from placerec.trunks import open_trunk

CLUSTERS, DIMENSIONS, SIZE = 8, 24, (160, 224)
PHOTOS = 8


@pytest.fixture(scope="module")
def model():
    """A model of the published form with seeded weights, on the trunk that ships."""
    trunk, draw = open_trunk("efficientnet-lite0"), np.random.default_rng(4).standard_normal
    width = CLUSTERS * trunk.channels
    centres = draw((CLUSTERS, trunk.channels), np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    weight = draw((DIMENSIONS, width), np.float32) / np.float32(np.sqrt(width))
    pca = Projection(weight, 0.01 * draw(DIMENSIONS, np.float32))
    settings = METHODS["paper-performance"].replace(
        clusters=CLUSTERS, global_dim=DIMENSIONS, image_size=SIZE, trunk=trunk.name
    )
    return Model("seeded", trunk, Fitted.shared(Vocabulary(centres, 20 * centres), pca), settings)


@pytest.fixture(scope="module")
def published(model, many_photos, tmp_path_factory):
    """The model's file, its index of a few photos, and those photos."""
    folder = tmp_path_factory.mktemp("published")
    file, index, photos = folder / "m.safetensors", folder / "t.placerec", sorted(
        many_photos.glob("*.png")
    )[:PHOTOS]  # fmt: skip
    save_model(model, file)
    build_index(index, many_photos, names=[one.name for one in photos[:-1]], model=str(file))
    add_photos(index, photos[-1:])
    return file, index, photos


def test_an_index_keeps_the_descriptors_as_the_model_made_them(model, published):
    _, index, photos = published
    with IndexReader.open(index) as opened:
        assert opened.info.format == 8
        stored = opened.global_descriptors()[:]
        for row, photo in enumerate(photos):
            wanted = model.describe(model.read(photo).pixels)
            assert np.array_equal(stored[row], wanted.global_descriptor)
            for kept, made in zip(opened.patches(row), wanted.patches, strict=True):
                assert np.array_equal(kept.descriptors, made.descriptors)


@pytest.mark.parametrize("scorer", ["spatial", "ransac"])
def test_a_query_scores_a_photo_as_the_two_photos_alone(model, published, scorer):
    if scorer == "ransac":
        pytest.importorskip("cv2")
    file, index, photos = published
    with PlaceRecognizer.open(index, scorer=scorer, fusion="raw") as recognizer:
        found = {one.path: one for one in recognizer.query(photos[3], top=PHOTOS).places}
    assert len(found) == PHOTOS
    settings = replace(model.settings, scorer=scorer)
    for photo in photos:
        alone, _ = match_photos(photos[3], photo, model=str(file), settings=settings)
        asked = found[photo.name]
        assert asked.score == pytest.approx(alone.score, rel=1e-9)
        assert asked.global_score == pytest.approx(alone.global_score, abs=1e-6)
        assert asked.inliers == alone.inliers


def test_the_default_method_keeps_one_or_two_bits_a_number(town_index):
    with IndexReader.open(town_index) as opened:
        assert json.loads(opened.info.settings)["form"] == "own"
        assert (opened.info.format, opened.info.preset) == (11, "default")
        bits = opened.global_descriptors().columns + sum(
            2 * patches.descriptors.size for patches in opened.patches(0)
        )
        assert opened.info.bytes_per_photo < bits / 8 + 150
