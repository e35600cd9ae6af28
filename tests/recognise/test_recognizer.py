"""Asking an index: order, stability, and what it refuses."""

import dataclasses
import shutil

import numpy as np
import pytest
from PIL import Image

from placerec.demo import demo_pose, position_of, render
from placerec.errors import (
    FixedByIndex,
    ModelMismatch,
    NotAnIndex,
    NotFound,
    PhotoError,
    UsageError,
)
from placerec.index.build import build_index
from placerec.index.update import add_photos
from placerec.method.ranking import shortlist
from placerec.recognise import recognizer as recognizer_module
from placerec.recognise.pair import match_photos
from placerec.recognise.picture import draw_match
from placerec.recognise.recognizer import PlaceRecognizer
from placerec.records import Position
from placerec.runtime import Runtime
from placerec.settings import Settings, named_settings
from placerec.trunks.external import TorchTrunk


def told(answer):
    """An answer as comparable values."""
    return [(p.rank, p.path, p.score, p.global_score, p.inliers, p.position) for p in answer.places]


@pytest.mark.parametrize("scorer", ["displacement", "spatial", "ransac"])
def test_an_indexed_photo_finds_itself_first_with_every_scorer(town, town_index, scorer):
    with PlaceRecognizer.open(town_index, scorer=scorer) as recognizer:
        for path in sorted((town / "database").iterdir()):
            answer = recognizer.query(path)
            assert answer.best.path == path.name
            assert answer.best.global_score > 0.99
            assert [p.rank for p in answer.places] == [1, 2, 3, 4, 5]
            scores = [p.score for p in answer.places]
            assert scores == sorted(scores, reverse=True)


def test_positions_come_from_exif(town, town_index):
    with PlaceRecognizer.open(town_index) as recognizer:
        best = recognizer.query(town / "database" / "place_002.jpg").best
    expected = position_of(demo_pose(0, 2, False))
    assert best.position is not None
    assert best.position.latitude == pytest.approx(expected.latitude, abs=1e-5)
    assert best.position.longitude == pytest.approx(expected.longitude, abs=1e-5)


def test_answers_are_the_same_for_any_number_of_threads(town, town_index):
    query = town / "queries" / "night_001.jpg"
    told_by = []
    for threads in (1, 2, 5):
        with PlaceRecognizer.open(town_index, runtime=Runtime(threads=threads)) as recognizer:
            told_by.append(told(recognizer.query(query)))
    assert told_by[0] == told_by[1] == told_by[2]


def test_pixels_and_path_give_the_same_answer(town, town_index):
    path = town / "queries" / "night_000.jpg"
    pixels = np.asarray(Image.open(path).convert("RGB"))
    with PlaceRecognizer.open(town_index) as recognizer:
        assert told(recognizer.query(pixels)) == told(recognizer.query(path))


def test_answers_can_be_compared(town, town_index):
    with PlaceRecognizer.open(town_index) as recognizer:
        first, again, other = (
            recognizer.query(town / "queries" / name)
            for name in ("night_000.jpg", "night_000.jpg", "night_001.jpg")
        )
    assert first == again
    assert first != other
    match = first.best.matches[0]
    assert match != dataclasses.replace(match, pairs=match.pairs[1:])


def test_every_form_of_a_photo_gives_the_same_answer(town, town_index):
    path = town / "queries" / "night_000.jpg"
    with PlaceRecognizer.open(town_index) as recognizer, Image.open(path) as image:
        photo = recognizer.read(path)
        expected = told(recognizer.query(path))
        for form in (str(path), photo, photo.pixels, image, Image.fromarray(photo.pixels)):
            assert told(recognizer.query(form)) == expected
        assert told(recognizer.query(photo.pixels[..., ::-1], bgr=True)) == expected
        assert recognizer.query(image).query == str(path)
        with pytest.raises(UsageError, match="bgr"):
            recognizer.query(path, bgr=True)


@pytest.mark.parametrize("mode", ["RGBA", "CMYK", "L", "P", "I;16", "F"])
def test_an_image_of_any_mode_is_converted_as_its_file_is(mode, town, town_index, tmp_path):
    path = town / "queries" / "night_001.jpg"
    image = Image.open(path).convert("L" if mode in ("I;16", "F") else mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) << 8)
    image = image.convert("F") if mode == "F" else image
    image.save(tmp_path / "a.tiff")
    with PlaceRecognizer.open(town_index, candidates=0) as recognizer:
        expected = told(recognizer.query(tmp_path / "a.tiff"))
        assert told(recognizer.query(image)) == expected


def test_an_image_is_turned_upright(town, town_index):
    image = Image.open(town / "queries" / "night_000.jpg").transpose(Image.Transpose.ROTATE_90)
    with PlaceRecognizer.open(town_index, candidates=0) as recognizer:
        expected = told(recognizer.query(image.transpose(Image.Transpose.ROTATE_270)))
        image.getexif()[0x0112] = 6
        assert told(recognizer.query(image)) == expected


@pytest.mark.parametrize(
    "photo",
    [
        np.zeros(48, np.uint8), np.zeros((48, 64, 2), np.uint8), np.zeros((0, 0, 3)),
        np.zeros((48, 64, 3), np.float32), Image.new("RGB", (0, 0)), None, 3, [[1, 2, 3]], b"a.jpg",
    ],
)  # fmt: skip
def test_what_is_no_photo_is_a_usage_error(photo, town_index):
    with (
        PlaceRecognizer.open(town_index) as recognizer,
        pytest.raises(UsageError, match="uint8 RGB"),
    ):
        recognizer.query(photo)


def test_a_recogniser_knows_that_its_index_has_changed_and_loads_it_again(
    town, town_index, tmp_path
):
    index, night = tmp_path / "a.placerec", town / "queries" / "night_000.jpg"
    shutil.copy(town_index, index)
    recognizer = PlaceRecognizer.open(str(index), candidates=3)
    assert not recognizer.is_stale
    add_photos(index, night)
    assert recognizer.is_stale
    assert recognizer.query(night).best.path == "place_000.jpg"
    reloaded = recognizer.reload()
    with pytest.raises(UsageError, match="closed"):
        recognizer.query(night)
    with reloaded:
        assert not reloaded.is_stale
        assert reloaded.settings.candidates == 3
        assert reloaded.query(night).best.path.endswith("night_000.jpg")
        index.unlink()
        assert reloaded.is_stale
        with pytest.raises(NotFound):
            reloaded.reload()
        assert len(reloaded.query(night).places) == 5


def test_a_recogniser_keeps_its_model_when_it_sees_added_frames(town, tmp_path, monkeypatch):
    photos = shutil.copytree(town / "database", tmp_path / "photos")
    index, frame = tmp_path / "a.placerec", render(9, demo_pose(9, 0, False), size=(120, 160))
    build_index(index, photos, settings=Settings(image_size=(120, 160)))
    first = PlaceRecognizer.open(index)
    loaded = []
    monkeypatch.setattr(
        recognizer_module, "model_of_index", lambda *words: loaded.append(words) or first.model
    )
    add_photos(index, {"frame.png": frame})
    with first.reload() as second:
        assert second.model is first.model
        assert not loaded
        assert second.query(frame).best.path == "frame.png"
        refit = tmp_path / "other.placerec"
        build_index(refit, photos, settings=Settings(image_size=(160, 224)))
        refit.replace(index)
        with second.reload():
            assert len(loaded) == 1


def test_retrieval_only_has_no_inliers_and_orders_by_the_global_score(town, town_index):
    with PlaceRecognizer.open(town_index, candidates=0) as recognizer:
        answer = recognizer.query(town / "queries" / "night_000.jpg")
    assert all(p.inliers is None and p.score == p.global_score for p in answer.places)


def test_photos_beyond_the_candidates_follow_in_global_order(town, town_index):
    with PlaceRecognizer.open(town_index, candidates=2) as recognizer:
        places = recognizer.query(town / "queries" / "night_000.jpg", top=6).places
    assert len({p.path for p in places}) == 6
    assert [p.inliers is None for p in places] == [False, False, True, True, True, True]
    rest = [p.global_score for p in places[2:]]
    assert rest == sorted(rest, reverse=True)


def test_an_index_of_one_photo_works(town, tmp_path):
    folder = tmp_path / "one"
    folder.mkdir()
    shutil.copy(town / "database" / "place_000.jpg", folder)
    report = build_index(tmp_path / "one.placerec", folder)
    assert report.added == 1
    with PlaceRecognizer.open(tmp_path / "one.placerec") as recognizer:
        answer = recognizer.query(town / "queries" / "night_000.jpg")
    assert [p.path for p in answer.places] == ["place_000.jpg"]
    assert len(answer) == 1


def test_what_an_index_fixes_cannot_be_changed(town_index):
    with pytest.raises(FixedByIndex, match="patch_sizes"):
        PlaceRecognizer.open(town_index, patch_sizes=((3, 3),))
    with pytest.raises(FixedByIndex, match="image_size"):
        PlaceRecognizer.open(town_index, image_size=(240, 320))


def test_an_unknown_setting_is_a_usage_error(town_index):
    with pytest.raises(UsageError, match="sharpness"):
        PlaceRecognizer.open(town_index, sharpness=3)


def test_another_model_is_refused_with_both_names(town_index, many_photos, tmp_path):
    from placerec.models.model_file import save_model
    from placerec.models.photo_source import fit_on_folder

    model, _ = fit_on_folder(many_photos, settings=Settings(image_size=(160, 224)))
    save_model(model, tmp_path / "other.safetensors")
    with pytest.raises(ModelMismatch) as caught:
        PlaceRecognizer.open(town_index, model=str(tmp_path / "other.safetensors"))
    assert "generic" in str(caught.value)
    assert model.name in str(caught.value)


def test_a_torch_module_can_be_the_trunk(town, tmp_path):
    import torch

    torch.manual_seed(0)
    trunk = TorchTrunk(torch.nn.Conv2d(3, 24, 16, stride=16), name="mine")
    index = tmp_path / "mine.placerec"
    settings = Settings(clusters=8, local_dim=0, pca_dim=16)
    build_index(index, town / "database", model=trunk, settings=settings)
    day = town / "database" / "place_004.jpg"
    with PlaceRecognizer.open(index, model=trunk) as recognizer:
        assert recognizer.query(day).best.path == day.name
    with pytest.raises(UsageError, match="mine"):
        PlaceRecognizer.open(index)
    night = town / "queries" / "night_000.jpg"
    assert add_photos(index, [night], model=trunk).added == 1
    with pytest.raises(ModelMismatch, match="mine"):
        PlaceRecognizer.open(index, model="efficientnet-lite0")


def test_a_mistyped_index_creates_nothing(tmp_path):
    with pytest.raises(NotFound):
        PlaceRecognizer.open(tmp_path / "twon.placerec")
    assert list(tmp_path.iterdir()) == []


def test_a_photo_is_not_an_index(town):
    with pytest.raises(NotAnIndex):
        PlaceRecognizer.open(town / "database" / "place_000.jpg")


def test_a_query_that_is_no_photo_is_a_named_error(town_index, tmp_path):
    (tmp_path / "notes.jpg").write_text("no photo")
    with PlaceRecognizer.open(town_index) as recognizer, pytest.raises(PhotoError, match="notes"):
        recognizer.query(tmp_path / "notes.jpg")


def test_shortlist_is_exact_and_breaks_ties_by_row():
    database = np.float32([[1, 0], [0, 1], [1, 0], [0.6, 0.8]])
    rows, similar = shortlist(np.float32([1, 0]), database, 3)
    assert rows.tolist() == [0, 2, 3]
    assert similar.tolist() == pytest.approx([1, 1, 0.6])
    preferred = np.array([False, True, True, True])
    assert shortlist(np.float32([1, 0]), database, 2, preferred)[0].tolist() == [2, 0]


@pytest.mark.parametrize("candidates", [0, 1, 2, 20])
def test_of_equal_photos_the_one_with_a_position_comes_first(candidates, copies):
    with PlaceRecognizer.open(copies / "a.placerec", candidates=candidates) as recognizer:
        first, second, third = recognizer.query(copies / "photos" / "b.png", top=3).places
    assert (first.path, first.position) == ("b.png", Position(1, 2))
    if candidates != 1:
        assert (second.path, second.score, second.position) == ("a.png", first.score, None)
        assert third.path == "c.png"


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """An index of b.png, which has a position, its copy a.png without one, and c.png."""
    folder = tmp_path_factory.mktemp("copies")
    (folder / "photos").mkdir()
    for place, name in enumerate(("b.png", "c.png")):
        pixels = render(1, demo_pose(1, place, False), size=(120, 160))
        Image.fromarray(pixels).save(folder / "photos" / name)
    shutil.copy(folder / "photos" / "b.png", folder / "photos" / "a.png")
    (folder / "where.csv").write_text("image,latitude,longitude\nb.png,1,2\n")
    build_index(folder / "a.placerec", folder / "photos", positions=folder / "where.csv")
    return folder


def test_two_photos_can_be_compared_and_drawn(town, tmp_path):
    day, night = town / "database" / "place_001.jpg", town / "queries" / "night_001.jpg"
    place, model = match_photos(night, day)
    itself, _ = match_photos(day, day)
    assert model.name == "generic"
    assert 0 < place.score < itself.score
    pixels = [np.asarray(Image.open(path).convert("RGB")) for path in (night, day)]
    draw_match(*pixels, place, tmp_path / "match.png")
    with Image.open(tmp_path / "match.png") as drawn:
        assert drawn.size == (640 + 640 + 12, 480)
    assert [path.name for path in tmp_path.iterdir()] == ["match.png"]


def test_photos_in_any_form_can_be_compared(town):
    day, night = town / "database" / "place_001.jpg", town / "queries" / "night_001.jpg"
    expected, model = match_photos(night, day)
    photo = model.read(night)
    with Image.open(day) as image:
        assert match_photos(photo, image)[0] == expected
        assert match_photos(photo.pixels[..., ::-1], day, bgr=True)[0] == expected
    with pytest.raises(UsageError, match="bgr: only an array"):
        match_photos(night, day, bgr=True)


def test_a_method_that_the_model_was_not_fitted_for_says_what_to_do(town):
    photo = town / "database" / "place_000.jpg"
    with pytest.raises(UsageError, match=r"k_patch 64.*placerec fit"):
        match_photos(photo, photo, settings=named_settings("patch-netvlad"))
