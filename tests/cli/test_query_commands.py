"""``placerec query`` and ``match`` from a shell."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from placerec.cli import cli
from placerec.demo import demo_pose, position_of
from placerec.errors import NotFound, UsageError
from placerec.index import IndexReader
from placerec.recognise import draw_match, match_photos
from placerec.records import Grid, Match, Place
from placerec.runtime import Runtime


def test_query_json_has_the_documented_keys_best_first(placerec, town, town_index):
    queries = sorted((town / "queries").iterdir())[:2]
    result = json.loads(placerec("query", town_index, *queries, "--json", "--top", 3).stdout)
    assert [set(answer) for answer in result] == [
        {"query", "in_map", "where", "places", "note", "uncalibrated"}
    ] * 2
    assert [answer["query"] for answer in result] == [str(path) for path in queries]
    for answer in result:
        assert [place["rank"] for place in answer["places"]] == [1, 2, 3]
        for place in answer["places"]:
            assert set(place) == {
                "rank", "path", "confidence", "score", "global_score", "inliers",
                "latitude", "longitude",
            }  # fmt: skip
        scores = [place["score"] for place in answer["places"]]
        assert scores == sorted(scores, reverse=True)


def test_query_draws_a_picture_and_writes_geojson(placerec, town, town_index):
    photo = town / "queries" / "night_003.jpg"
    result = placerec("query", town_index, photo, "--picture", "p.png", "--geojson", "p.geojson")
    assert "place_00" in result.stdout
    assert result.stdout.splitlines()[-2:] == ["picture: p.png", "geojson: p.geojson"]
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


@pytest.mark.parametrize(
    ("photos", "options", "error"),
    [
        (["good"], ["--picture", "x.tiff"], UsageError),
        (["good"], ["--picture", "x"], UsageError),
        (["good"], ["--picture", "good"], UsageError),
        (["good", "good"], ["--picture", "x.png"], UsageError),
        (["good"], ["--picture", "nowhere/x.png"], NotFound),
        (["good", "good"], ["--picture", "nowhere/pictures"], NotFound),
        (["good"], ["--geojson", "nowhere/x.geojson"], NotFound),
        (["."], [], NotFound),
    ],
)
def test_what_cannot_be_written_is_refused_before_any_work(
    photos, options, error, town, town_index, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    good = str(town / "queries" / "night_000.jpg")
    words = ["query", str(town_index), *photos, *options]
    words = [good if word == "good" else word for word in words]
    result = CliRunner().invoke(cli, words)
    assert isinstance(result.exception, error)
    assert result.output == ""
    assert list(tmp_path.iterdir()) == []


def test_bad_photos_among_several_are_listed_and_the_others_answered(
    placerec, town, town_index, tmp_path
):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    (tmp_path / "empty").mkdir()
    bad = [tmp_path / name for name in ("broken.jpg", "missing.jpg", "empty")]
    good = [town / "queries" / f"night_00{number}.jpg" for number in range(2)]
    words = (bad[0], good[0], bad[1], bad[2], good[1])
    result = placerec("query", town_index, *words, "--json", code=5)
    assert [answer["query"] for answer in json.loads(result.stdout)] == [*map(str, good)]
    lines = result.stderr.splitlines()
    assert lines[0] == "skipped 3 photos:"
    assert all(any(str(path) in line for line in lines[1:]) for path in bad)


def test_a_folder_asks_every_photo_in_it(placerec, town, town_index):
    queries = sorted((town / "queries").iterdir())
    result = placerec("query", town_index, town / "queries", "--json", "--top", 1)
    assert [answer["query"] for answer in json.loads(result.stdout)] == [*map(str, queries)]


def test_swapped_arguments_name_the_right_command(placerec, town, town_index):
    photo = town / "queries" / "night_000.jpg"
    refused = placerec("query", photo, town_index, code=2)
    assert f"did you mean: placerec query {town_index} {photo}?" in refused.stderr


def test_several_photos_are_drawn_into_a_folder_under_names_of_their_own(
    placerec, town, town_index
):
    for folder, night in (("a", "night_000.jpg"), ("b", "night_001.jpg")):
        (placerec.folder / folder).mkdir()
        shutil.copy(town / "queries" / night, placerec.folder / folder / "1.jpg")
    placerec("query", town_index, "a", "b/1.jpg", "--picture", "drawn")
    drawn = sorted((placerec.folder / "drawn").iterdir())
    assert [path.name for path in drawn] == ["001_1.png", "002_1.png"]
    assert drawn[0].read_bytes() != drawn[1].read_bytes()


@pytest.mark.parametrize(("suffix", "kind"), [(".png", "PNG"), (".JPG", "JPEG"), (".webp", "WEBP")])
def test_a_picture_has_the_format_of_its_suffix(suffix, kind, town, tmp_path):
    photo, out = town / "database" / "place_000.jpg", tmp_path / f"m{suffix}"
    place, model = match_photos(photo, photo)
    pixels = model.read(photo).pixels
    draw_match(pixels, pixels, place, str(out))
    with Image.open(out) as picture:
        assert (picture.format, picture.height) == (kind, 480)
    for refused, error in (("m.tiff", UsageError), ("nowhere/m.png", NotFound)):
        with pytest.raises(error, match=refused.rpartition("/")[0] or refused):
            draw_match(pixels, pixels, place, tmp_path / refused)
    assert list(tmp_path.iterdir()) == [out]


def test_an_index_without_its_photos_answers_and_says_which_photo_it_cannot_draw(
    placerec, town, town_index
):
    shutil.copy(town_index, placerec.folder / "moved.placerec")
    photo = town / "queries" / "night_000.jpg"
    result = placerec("query", "moved.placerec", photo, "--picture", "p.png", code=3)
    assert "place_000.jpg" in result.stdout
    assert f"no picture of {photo}: " in result.stderr
    assert "place_000.jpg: the indexed photo is missing" in result.stderr
    assert [path.name for path in placerec.folder.iterdir()] == ["moved.placerec"]


def test_a_photo_that_says_nothing_is_an_answer_of_its_own(placerec, town_index):
    Image.new("RGB", (640, 480)).save(placerec.folder / "black.png")
    words = ("query", town_index, "black.png")
    shown = placerec(*words, "--picture", "p.png", "--geojson", "p.geojson")
    why = "nothing to recognise (one colour, a covered lens, or tiny)"
    assert shown.stdout == f"black.png\n  {why}\ngeojson: p.geojson\n"
    assert "no picture of black.png: nothing to recognise" in shown.stderr
    assert "p.geojson: it has no place" in shown.stderr
    assert json.loads((placerec.folder / "p.geojson").read_text())["features"] == []
    answers = json.loads(placerec(*words, "--json").stdout)
    assert answers == [{
        "query": "black.png", "in_map": None, "where": None, "places": [],
        "note": "nothing to recognise", "uncalibrated": "",
    }]  # fmt: skip


def test_match_tells_and_draws(placerec, town):
    pair = (town / "queries" / "night_001.jpg", town / "database" / "place_001.jpg")
    result = json.loads(placerec("match", *pair, "--json", "--picture", "m.png").stdout)
    assert set(result) == {"first", "second", "score", "global_score", "inliers", "model"}
    assert (placerec.folder / "m.png").is_file()
    lines = placerec("match", *pair, "--picture", "m.png").stdout.splitlines()
    assert lines[2:5] == [
        f"score: {result['score']:.3f}", f"global: {result['global_score']:.3f}",
        f"inliers: {result['inliers']}",
    ]  # fmt: skip
    assert lines[-1] == "picture: m.png"


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


@pytest.mark.parametrize("option", ["--geojson", "--picture"])
def test_no_result_replaces_the_index_or_an_indexed_photo(
    option, placerec, town, town_index, tmp_path
):
    index = tmp_path / "a.jpg"  # a suffix that a picture may have
    index.write_bytes(town_index.read_bytes())
    with IndexReader.open(town_index) as reader:
        photo = reader.photo_path(reader.entries[0].name)
    night = town / "queries" / "night_000.jpg"
    for asked, output in ((index, index), (town_index, photo), (index, night)):
        before = output.read_bytes()
        refused = placerec("query", asked, night, option, output, code=2)
        assert f"{output}: already exists; it is not replaced" in refused.stderr
        assert output.read_bytes() == before


def test_a_photo_that_may_not_be_read_is_skipped(town, town_index, tmp_path, monkeypatch):
    good, closed = town / "queries" / "night_000.jpg", tmp_path / "closed.jpg"
    closed.write_bytes(good.read_bytes())
    opened, access = Path.open, os.access

    def refuse(path, *words, **options):
        if Path(path).name == closed.name:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *words, **options)

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(
        os, "access", lambda path, mode, **o: path != str(closed) and access(path, mode, **o)
    )
    result = CliRunner().invoke(
        cli, ["query", str(town_index), str(closed), str(good)], standalone_mode=False
    )
    assert result.return_value == 5
    assert "place_000.jpg" in result.stdout
    assert "closed.jpg: cannot be read (Permission denied)" in result.stderr


def test_a_number_of_threads_that_no_machine_has_is_refused(placerec, town, town_index):
    photo = town / "queries" / "night_000.jpg"
    result = placerec("query", town_index, photo, "--threads", 1_000_000, code=2)
    assert "1<=x<=1024" in result.stderr
    with pytest.raises(UsageError, match="threads -1: must be at most 1024, or 0 for all cores"):
        Runtime(threads=-1)


def test_a_very_narrow_photo_is_drawn(tmp_path):
    grid = Grid((2, 2), 29, 39, 1)
    pairs = np.array([(0, 0), (40, 41), (1130, 1130)])
    place = Place(1, "a.jpg", 1.0, 1.0, None, (Match(1.0, pairs, grid, grid),))
    narrow, wide = (np.full(shape, 90, np.uint8) for shape in ((20000, 400, 3), (48, 64, 3)))
    draw_match(narrow, wide, place, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as drawn:
        assert drawn.size == (10 + 12 + 640, 480)


def test_a_folder_inside_that_cannot_be_read_is_listed_and_the_others_answer(
    command, town, town_index, tmp_path, lock
):
    folder = tmp_path / "asked"
    for name in ("open", "closed"):
        (folder / name).mkdir(parents=True)
        shutil.copy(town / "queries" / "night_000.jpg", folder / name)
    lock(folder / "closed")
    code, out, err = command("query", town_index, folder, "--json")
    assert code == 5
    assert [answer["query"] for answer in json.loads(out)] == [str(folder / "open/night_000.jpg")]
    assert f"{folder / 'closed'}: this folder cannot be read" in err
