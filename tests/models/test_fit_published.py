"""The fit of the published form: which vectors its PCA is fitted on, and that the model says so."""

import numpy as np
import pytest

from placerec.errors import UsageError
from placerec.method.pca import fit_pca
from placerec.method.vlad import Vocabulary
from placerec.models import fit
from placerec.models.fit import fit_model, more_photos_for_pca, photos_for_fit
from placerec.models.model import Fitted, global_descriptor
from placerec.models.photo_source import fit_on_folder
from placerec.photos.prepare import Preprocessing
from placerec.runtime import Runtime
from placerec.settings import METHODS
from placerec.trunks import open_trunk
from placerec.version import __version__

CHANNELS, CLUSTERS, SIZE = 6, 40, (64, 96)


class Trunk:
    """The mean colours of 16 x 16 pixels, twice; remembers what it saw."""

    name, sha256, channels, stride = "toy", "a" * 64, CHANNELS, 16

    def __init__(self):
        self.seen = []

    def preprocessing(self, size):
        return Preprocessing(size, (120.0,) * 3, (60.0,) * 3)

    def __call__(self, image):
        self.seen.append(image[0])
        cells = image[0].reshape(3, SIZE[0] // 16, 16, SIZE[1] // 16, 16).mean(axis=(2, 4))
        return np.concatenate((cells, cells**2)).astype(np.float32)


@pytest.fixture
def vocabulary():
    draw = np.random.default_rng(1).standard_normal
    return Vocabulary(
        draw((CLUSTERS, CHANNELS), np.float32), draw((CLUSTERS, CHANNELS), np.float32)
    )


def settings(dimensions):
    return METHODS["paper-storage"].replace(
        clusters=CLUSTERS, global_dim=dimensions, image_size=SIZE, patch_sizes=((2, 2),)
    )


def maps(count, seed=0):
    draw = np.random.default_rng(seed).standard_normal
    return [draw((4, 6, CHANNELS), np.float32) for _ in range(count)]


def fitted(photos, dimensions, vocabulary, **more):
    return fit_model(
        Trunk(), settings(dimensions), photos, name="m", training_data="photos",
        vocabulary=vocabulary, **more,
    )  # fmt: skip


def vectors(views, vocabulary):
    shared = Fitted.shared(vocabulary, None)
    return np.stack([global_descriptor(view, shared, settings(2)) for view in views])


def same(model, samples):
    expected = fit_pca(samples, model.fitted.projection.dimensions)
    found = model.fitted.projection
    return np.array_equal(found.weight, expected.weight) and np.array_equal(
        found.bias, expected.bias
    )


def never():
    raise AssertionError("looked at without need")
    yield


def test_photos_enough_are_all_and_nothing_else(vocabulary):
    photos, others = maps(20), maps(15, 1)
    model = fitted(photos, 24, vocabulary, others=iter(others), mirrored=never())
    assert model.training_data == "photos, 15 more photos added for the PCA"
    assert same(model, vectors([*others, *photos], vocabulary))


def test_windows_fill_up_what_photos_leave_missing(vocabulary):
    photos = maps(20)
    model = fitted(photos, 24, vocabulary, mirrored=never())
    rng, views = np.random.default_rng(fit.SEED), []
    for one in photos:
        views += [one, *fit._windows(one, 1, rng)]  # 31 vectors are wanted
    assert model.training_data == "photos, 20 windows of their feature maps added for the PCA"
    assert same(model, vectors(views, vocabulary))


def test_mirrored_photos_come_last_and_only_where_windows_are_too_few(vocabulary):
    photos, mirrored = maps(2), maps(2, 3)
    model = fitted(photos, 120, vocabulary, mirrored=iter(mirrored))
    rng, views = np.random.default_rng(fit.SEED), []
    for one in photos:
        views += [one, *fit._windows(one, fit.MOST_WINDOWS, rng)]
    for one in mirrored:
        views += [one, *fit._windows(one, 10, rng)]  # 151 vectors are wanted, 130 are there
    assert model.training_data == (
        "photos, 128 windows of their feature maps and 22 views of the mirrored photos added for "
        "the PCA"
    )
    assert same(model, vectors(views, vocabulary))


@pytest.mark.parametrize(("mirrored", "most"), [(None, 103), ((), 207)])
def test_too_few_photos_for_all_that_is_refused_with_what_they_allow(vocabulary, mirrored, most):
    with pytest.raises(UsageError, match=f"2 photos .* allow at most {most};"):
        fitted(maps(2), 230, vocabulary, mirrored=mirrored)


def test_the_pca_takes_ten_thousand_photos_a_seeded_choice_in_any_order():
    names = [f"{n:05}.jpg" for n in range(25_000)]
    chosen = photos_for_fit(names)
    others = more_photos_for_pca(names, chosen)
    assert (len(chosen), len(others)) == (1000, 9000)
    assert not set(chosen) & set(others)
    assert others == sorted(set(others)) == more_photos_for_pca(names[::-1], chosen)
    assert np.diff([int(name[:5]) for name in others]).max() < 60  # from all over the list
    assert more_photos_for_pca(names[:1200], photos_for_fit(names[:1200])) == [
        name for name in names[:1200] if name not in photos_for_fit(names[:1200])
    ]
    assert more_photos_for_pca(names[:1000], names[:1000]) == []


def test_a_folder_gives_its_pca_more_photos_than_its_vocabulary(many_photos, monkeypatch):
    monkeypatch.setattr(fit, "MOST_PHOTOS", 10)
    stages = {}

    def note(stage, done, total):
        stages[stage] = (done, total)

    model, skipped = fit_on_folder(
        many_photos, model=Trunk(), settings=settings(16).replace(clusters=4),
        runtime=Runtime(threads=2, progress=note),
    )  # fmt: skip
    assert not skipped
    assert model.training_data.startswith("10 photos of")
    assert model.training_data.endswith("without labels, 42 more photos added for the PCA")
    assert stages["more photos for the PCA"] == (42, 42)
    again, _ = fit_on_folder(
        many_photos,
        model=Trunk(),
        settings=settings(16).replace(clusters=4),
        runtime=Runtime(threads=3),
    )
    assert again.fingerprint == model.fingerprint


def test_mirrored_photos_pass_the_trunk(many_photos, monkeypatch, tmp_path):
    for photo in sorted(many_photos.iterdir())[:2]:
        (tmp_path / photo.name).write_bytes(photo.read_bytes())
    (tmp_path / "wrong.png").write_bytes(b"no photo")
    trunk = Trunk()
    monkeypatch.setattr(fit, "MOST_WINDOWS", 2)
    model, skipped = fit_on_folder(
        tmp_path, model=trunk, settings=settings(6).replace(clusters=4), runtime=Runtime(threads=1)
    )
    assert [error.path.name for error in skipped] == ["wrong.png"]
    assert "4 windows of their feature maps and 4 views of the mirrored" in model.training_data
    first, second, mirror, other = trunk.seen
    for photo, mirrored in ((first, mirror), (second, other)):
        assert np.abs(mirrored - photo[:, :, ::-1]).max() < 0.05  # resized, so not to the bit


def test_a_fitted_model_says_how_it_was_made_and_whose_it_is(vocabulary):
    model = fitted(maps(20), 4, vocabulary)
    assert model.provenance == f"fitted by placerec {__version__} with the trunk toy aaaaaaaaaaaa"
    assert model.licence == "the trunk's weights: not stated; the fit belongs to its author"
    trunk = open_trunk("efficientnet-lite0")
    photos = [np.random.default_rng(2).standard_normal((8, 9, trunk.channels), np.float32)] * 3
    shipped = fit_model(trunk, METHODS["default"], photos, name="m", training_data="photos")
    assert trunk.sha256[:12] in shipped.provenance
    assert shipped.licence.startswith("the trunk's weights: Apache-2.0;")
