"""``placerec query`` and ``match`` from a shell."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from placerec.demo import demo_pose, position_of


def test_query_json_has_the_documented_keys_best_first(placerec, town, town_index):
    queries = sorted((town / "queries").iterdir())[:2]
    result = json.loads(placerec("query", town_index, *queries, "--json", "--top", 3).stdout)
    assert [set(answer) for answer in result] == [{"query", "places"}] * 2
    assert [answer["query"] for answer in result] == [str(path) for path in queries]
    for answer in result:
        assert [place["rank"] for place in answer["places"]] == [1, 2, 3]
        for place in answer["places"]:
            assert set(place) == {
                "rank", "path", "score", "global_score", "inliers", "latitude", "longitude",
            }  # fmt: skip
        scores = [place["score"] for place in answer["places"]]
        assert scores == sorted(scores, reverse=True)


def test_query_draws_a_picture_and_writes_geojson(placerec, town, town_index):
    photo = town / "queries" / "night_003.jpg"
    result = placerec("query", town_index, photo, "--picture", "p.png", "--geojson", "p.geojson")
    assert "place_00" in result.stdout
    with Image.open(placerec.folder / "p.png") as picture:
        assert picture.height == 480
    collection = json.loads((placerec.folder / "p.geojson").read_text())
    assert collection["type"] == "FeatureCollection"
    assert len(collection["features"]) == 5
    longitude, latitude = collection["features"][0]["geometry"]["coordinates"]
    expected = position_of(demo_pose(0, 3, False))
    assert longitude == pytest.approx(expected.longitude, abs=0.01)
    assert latitude == pytest.approx(expected.latitude, abs=0.01)


def test_bad_queries_exit_with_their_code_in_one_line(placerec, town, town_index, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    good = town / "queries" / "night_000.jpg"
    for words, code in (
        (("query", "nowhere.placerec", good), 3),
        (("query", good, good), 3),
        (("query", town_index, "nowhere.jpg"), 3),
        (("query", town_index, tmp_path / "broken.jpg"), 5),
        (("query", town_index, good, "--patch-sizes", "7"), 2),
        (("query", town_index, good, "--patch-sizes", "seven"), 2),
        (("query", town_index, good, "--model", "vgg19"), 2),
        (("query", town_index, good, "--scale-weights", "0.5,0.6"), 2),
        (("query", town_index, good, "--device", "tpu"), 2),
        (("query", town_index, good, good, "--picture", "x.png"), 2),
    ):
        refused = placerec(*words, code=code)
        assert refused.stdout == ""
        assert "rror: " in refused.stderr
    assert list(placerec.folder.iterdir()) == []


def test_one_bad_photo_of_several_is_listed_and_the_others_answered(
    placerec, town, town_index, tmp_path
):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    good = town / "queries" / "night_000.jpg"
    result = placerec("query", town_index, tmp_path / "broken.jpg", good, "--json", code=5)
    assert [answer["query"] for answer in json.loads(result.stdout)] == [str(good)]
    assert "broken.jpg" in result.stderr


def test_match_tells_and_draws(placerec, town):
    pair = (town / "queries" / "night_001.jpg", town / "database" / "place_001.jpg")
    result = json.loads(placerec("match", *pair, "--json", "--out", "m.png").stdout)
    assert set(result) == {"first", "second", "score", "global_score", "inliers", "model"}
    assert (placerec.folder / "m.png").is_file()


def test_a_closed_pipe_and_a_full_disk_are_no_traceback(town_index):
    words = [sys.executable, "-m", "placerec", "index", "info", str(town_index)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        error = process.stderr.read()
    assert process.returncode == 141
    assert error == b""
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 6
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1


def test_an_index_can_be_copied_and_asked_elsewhere(placerec, town, town_index):
    shutil.copy(town_index, placerec.folder / "copy of ? #1.placerec")
    photo = town / "queries" / "night_002.jpg"
    copied = placerec("query", "copy of ? #1.placerec", photo, "--json").stdout
    assert copied == placerec("query", town_index, photo, "--json").stdout


def test_version_is_printed(placerec):
    assert placerec("--version").stdout.startswith("placerec 0.")
