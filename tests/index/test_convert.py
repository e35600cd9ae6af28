"""An index with fewer bytes: described once, packed again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from placerec import PlaceRecognizer, add_photos, build_index, convert_index, verify
from placerec.errors import UsageError
from placerec.index import IndexReader
from placerec.index.presets import preset_for
from placerec.settings import CHOICES, METHODS, Settings

SMALLER = CHOICES["preset"][1:]
QUICK = Settings(image_size=(120, 160))


@pytest.fixture(scope="module")
def indexes(town: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The town's days by every preset, each described anew."""
    folder = tmp_path_factory.mktemp("presets")
    paths = {preset: folder / f"{preset}.plr" for preset in CHOICES["preset"]}
    for preset, path in paths.items():
        build_index(path, town / "database", settings=QUICK, preset=preset)
    return paths


@pytest.mark.parametrize(
    ("method", "preset"),
    [("default", "default"), ("netvlad", "int8"), ("patch-netvlad", "int8"),
     ("paper-speed", "exact")],
)  # fmt: skip
def test_a_method_has_its_own_preset(method: str, preset: str):
    assert preset_for(METHODS[method]).name == preset


def test_a_smaller_preset_needs_fewer_bytes_and_says_its_name(indexes):
    sizes = []
    for preset, path in indexes.items():
        with IndexReader.open(path) as reader:
            assert reader.info.preset == preset
            sizes.append(reader.info.bytes_per_photo)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 3.9 * sizes[1] - 500
    assert sizes[2] < 2 * sizes[1] / 8 + 500
    assert all(verify(path) == [] for path in indexes.values())


def test_few_bits_find_the_places_of_the_town(town: Path, town_index: Path, tmp_path: Path):
    convert_index(town_index, tmp_path / "compact.plr", "compact")
    photos = sorted((town / "queries").iterdir())
    for path in (town_index, tmp_path / "compact.plr"):
        with PlaceRecognizer.open(path) as recognizer:
            answers = list(recognizer.query_many(photos, top=1))
        wanted = [photo.name.replace("night", "place") for photo in photos]
        assert [answer.best.path for answer in answers if answer.best] == wanted


@pytest.mark.parametrize("preset", SMALLER)
def test_a_converted_index_answers_as_one_that_was_built_so(
    indexes, town: Path, tmp_path: Path, preset: str
):
    out = tmp_path / "small.plr"
    count = convert_index(indexes["exact"], out, preset)
    assert count == len(list((town / "database").iterdir()))
    assert verify(out) == []
    with IndexReader.open(out) as small, IndexReader.open(indexes[preset]) as built:
        assert small.entries == built.entries
        assert small.info.preset == preset
        assert small.info.calibration == built.info.calibration
        assert np.array_equal(small.global_descriptors()[:], built.global_descriptors()[:])
        for row in range(count):
            for one, other in zip(small.patches(row), built.patches(row), strict=True):
                assert np.array_equal(one.descriptors, other.descriptors)


def test_bits_are_made_of_bits_with_the_same_signs(indexes, tmp_path: Path):
    convert_index(indexes["default"], tmp_path / "small.plr", "compact")
    with (
        IndexReader.open(tmp_path / "small.plr") as small,
        IndexReader.open(indexes["compact"]) as built,
    ):
        one, other = small.patches(3)[0].descriptors, built.patches(3)[0].descriptors
        assert np.array_equal(np.sign(one), np.sign(other))
        assert np.abs(one).max() == pytest.approx(np.abs(other).max(), rel=0.02)


def test_an_index_takes_photos_after_its_conversion(indexes, town: Path, tmp_path: Path):
    out = tmp_path / "small.plr"
    convert_index(indexes["exact"], out, "compact")
    add_photos(out, town / "queries")
    assert verify(out) == []
    with IndexReader.open(out) as reader:
        assert reader.info.preset == "compact"
        assert any("queries" in entry.name for entry in reader.entries)


@pytest.mark.parametrize("preset", ["exact", "int8", "default"])
def test_an_index_does_not_grow_by_a_conversion(indexes, tmp_path: Path, preset: str):
    with pytest.raises(UsageError, match=f"has the preset default, and {preset} does not need"):
        convert_index(indexes["default"], tmp_path / "large.plr", preset)
    assert not list(tmp_path.iterdir())


def test_an_unknown_preset_is_refused_with_those_that_exist(town: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="exact or int8 or default or compact, not 'tiny'"):
        build_index(tmp_path / "a.plr", town / "database", preset="tiny")
    assert not list(tmp_path.iterdir())


def test_a_conversion_into_the_same_file_replaces_it_only_if_asked(indexes, command, tmp_path):
    path = tmp_path / "town.plr"
    path.write_bytes(indexes["exact"].read_bytes())
    size = path.stat().st_size
    code, _, errors = command("index", "convert", path, path)
    assert (code, path.stat().st_size) == (2, size)
    assert "already exists" in errors
    code, output, _ = command("index", "convert", path, path, "--force")
    assert code == 0
    assert "preset compact" in output
    assert path.stat().st_size < size
    assert "compact" in command("index", "info", path)[1]


@pytest.mark.parametrize("preset", CHOICES["preset"])
@pytest.mark.parametrize("candidates", [0, 20])
def test_a_cosine_is_at_most_one(indexes, town: Path, preset: str, candidates: int):
    with PlaceRecognizer.open(indexes[preset], candidates=candidates) as recognizer:
        places = recognizer.query(town / "database" / "place_003.jpg").places
        assert places[0].path == "place_003.jpg"
        assert 0.9 < places[0].global_score <= 1
        assert places[1].global_score < 0.9
        own = recognizer.stored(3)
        (second,) = recognizer.answer("", own, 1, {3}).places
        assert np.linalg.norm(own.global_descriptor) == pytest.approx(1, abs=1e-5)
        assert second.global_score < 0.95


@pytest.mark.parametrize("force", [[], ["--force"]])
@pytest.mark.parametrize("content", [b"mine", b""])
def test_a_file_that_is_no_index_is_refused_and_force_is_not_advised(
    indexes, command, town, tmp_path, force, content
):
    other = tmp_path / "file.txt"
    other.write_bytes(content)
    for words in (("convert", indexes["exact"], other), ("build", other, town / "database")):
        code, _, errors = command("index", *words, *force)
        assert (code, errors.count("\n")) == (2, 1)
        assert f"{other}: not a placerec index" in errors
        assert "it is not replaced" in errors
        assert "--force" not in errors
    assert other.read_bytes() == content
    assert list(tmp_path.iterdir()) == [other]


def test_a_conversion_onto_a_folder_names_a_file_and_not_force(indexes, command, tmp_path):
    code, _, errors = command("index", "convert", indexes["exact"], tmp_path)
    assert code == 2
    assert f"{tmp_path}: a folder; name the index file" in errors
    assert "--force" not in errors
