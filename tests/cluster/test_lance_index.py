"""The commands on an index in Lance: what they say and answer is what they say of a file."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from placerec import PlaceRecognizer, add_photos, build_index, refit_index, refresh_index
from placerec.errors import FixedByIndex
from placerec.index import open_index
from placerec.settings import Settings

SMALL = Settings(image_size=(120, 160))


@pytest.fixture(scope="module")
def both(many_photos, tmp_path_factory) -> list[str]:
    """An index of the same 52 photos in each store, with a fitted model."""
    folder = tmp_path_factory.mktemp("both")
    indexes = [str(folder / "town.placerec"), f"lance:{folder}/town"]
    for index in indexes:
        build_index(index, many_photos, settings=SMALL)
    return indexes


def answers(index: str, photo: Path) -> object:
    with PlaceRecognizer.open(index) as recognizer:
        places = recognizer.query(photo, 30).places
        return [(p.path, p.score, p.global_score, p.inliers) for p in places]


def test_the_ranking_and_the_scores_are_those_of_a_file(both, many_photos):
    first, second = (answers(index, many_photos / "007.png") for index in both)
    assert first == second
    assert len(first) == 30
    with open_index(both[0]) as file, open_index(both[1]) as lance:
        assert file.entries == lance.entries
        assert file.weights() == lance.weights()
        assert file.info.calibration == lance.info.calibration


def test_a_setting_that_the_index_fixes_is_refused(both):
    with pytest.raises(FixedByIndex):
        PlaceRecognizer.open(both[1], stride=3)


@pytest.fixture
def changing(photos, folder) -> list[str]:
    indexes = [str(folder / "town.placerec"), f"lance:{folder}/town"]
    for index in indexes:
        build_index(index, photos, settings=SMALL)
    return indexes


def entries(index: str) -> object:
    with open_index(index) as reader:
        return reader.entries, reader.global_descriptors().stored.tobytes()


def test_changes_of_a_folder_are_followed_alike(changing, photos, folder):
    names = sorted(path.name for path in photos.iterdir())
    (photos / names[0]).rename(photos / "renamed.jpg")
    (photos / names[1]).unlink()
    shutil.copy(photos / names[2], photos / names[3])
    reports = [refresh_index(index) for index in changing]
    assert reports[0] == reports[1]
    assert (reports[0].moved, reports[0].removed) == (1, 1)
    assert entries(changing[0]) == entries(changing[1])
    photos.rename(folder / "moved")
    assert [refresh_index(index, folder=folder / "moved").unchanged for index in changing] == [5, 5]
    reports = [add_photos(index, folder / "moved") for index in changing]
    assert reports[0] == reports[1]
    reports = [refit_index(index) for index in changing]
    assert reports[0].changed == reports[1].changed == 5
    assert entries(changing[0]) == entries(changing[1])


def test_an_open_recogniser_says_that_it_is_stale_and_opens_again(changing, photos):
    with PlaceRecognizer.open(changing[1]) as recognizer:
        assert not recognizer.is_stale
        shutil.copy(next(photos.iterdir()), photos / "new.jpg")
        refresh_index(changing[1])
        assert recognizer.is_stale
        with recognizer.reload() as again:
            assert len(again.index.entries) == 7


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_what_is_no_folder_of_lance_is_named_and_stays(both, folder, command, force):
    (folder / "file.txt").write_text("mine")
    (folder / "diary").mkdir()
    (folder / "diary" / "day.txt").write_text("mine")
    for name, why in (("file.txt", "a file, not a folder of Lance"), ("diary", "other files")):
        code, _, error = command("index", "convert", both[0], f"lance:{folder}/{name}", *force)
        assert (code, error.count("\n"), "--force" in error) == (2, 1, False)
        assert f"lance:{folder}/{name}: " in error
        assert why in error
    code, _, error = command("index", "info", f"lance:{folder}/file.txt")
    assert (code, "not a placerec index (a file" in error) == (3, True)
    assert (folder / "file.txt").read_text() == (folder / "diary" / "day.txt").read_text() == "mine"


def test_the_address_of_an_object_store_is_shown_as_it_was_given(object_store, photos, command):
    index = "lance:s3://maps/town"
    assert command("index", "info", index)[2].startswith(f"error: {index}: no such folder")
    assert command("index", "build", index, photos, "--image-size", "120,160")[0] == 0
    assert command("index", "verify", index)[1] == f"{index}: sound\n"


def test_the_commands_take_an_address(photos, folder, command):
    index, name = f"lance:{folder}/town", sorted(path.name for path in photos.iterdir())[0]
    words = ["--image-size", "120,160", "--threads", "2"]
    assert command("index", "build", index, photos, *words)[0] == 0
    code, _, error = command("index", "build", index, photos, *words)
    assert (code, "already exists" in error) == (2, True)
    assert command("index", "build", index, photos, "--force", *words)[0] == 0
    assert command("index", "verify", index)[1] == f"{index}: sound\n"
    facts = json.loads(command("index", "info", index, "--json")[1])
    assert (facts["photos"], facts["format"], facts["leftovers"]) == (6, 11, [])
    assert command("index", "remove", index, name)[0] == 0
    assert command("index", "add", index, photos / name)[0] == 0
    code, out, error = command("query", index, photos / name, "--json")
    assert code == 0, error
    assert json.loads(out)[0]["places"][0]["path"] == name
    assert command("index", "refit", index)[0] == 0
    code, out, error = command("index", "convert", index, f"lance:{folder}/small")
    assert (code, error) == (0, "")
    sizes = [json.loads(command("index", "info", f"lance:{folder}/{name}", "--json")[1])["bytes"]
             for name in ("small", "town")]  # fmt: skip
    assert re.findall(r"[0-9.]+ kB", out) == [f"{size / 1000:.3g} kB" for size in sizes]
    code, _, error = command("index", "info", f"lance:{folder}/nothing")
    assert (code, error.count("\n")) == (3, 1)
    for words in (("info", "lance:ftp://maps/town"), ("build", "lance:ftp://maps/town", photos)):
        code, _, error = command("index", *words)
        assert (code, error.count("\n"), "no such store" in error) == (2, 1, True)
