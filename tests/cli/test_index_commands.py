"""``placerec index`` from a shell: counts, skipped photos, exit codes."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from PIL import ExifTags, Image

from placerec import build_index
from placerec.index import IndexReader
from placerec.models.resolve import model_facts
from placerec.settings import Settings
from placerec.trunks.efficientnet_lite import shipped_onnx


def test_build_info_verify_and_json_keys(placerec, photos):
    built = placerec("index", "build", "town.placerec", photos)
    assert "town.placerec: 6 added, 0 skipped" in built.stdout
    assert sorted(p.name for p in placerec.folder.iterdir()) == ["town.placerec"]
    info = json.loads(placerec("index", "info", "town.placerec", "--json").stdout)
    assert set(info) == {
        "photos", "with_position", "gps_damaged", "blank", "missing", "bytes", "bytes_per_photo",
        "model", "fingerprint", "folder", "settings", "created_with", "format", "preset",
        "leftovers", "calibration", "retriever", "retriever_fingerprint", "retriever_source",
        "training_data", "provenance", "licence",
    }  # fmt: skip
    generic = model_facts("generic")
    for name in ("training_data", "provenance", "licence"):
        assert info[name] == generic[name] != ""
    assert info["photos"] == info["with_position"] == 6
    assert info["model"] == "generic"
    assert "sound" in placerec("index", "verify", "town.placerec").stdout


def test_folder_and_index_may_come_in_either_order(placerec, photos):
    placerec("index", "build", photos, "town.placerec")
    names = placerec("index", "info", "town.placerec", "--photos").stdout.split()
    assert names == [f"place_00{i}.jpg" for i in range(6)]


def test_a_second_build_does_not_replace_an_index_unasked(placerec, photos):
    placerec("index", "build", "town.placerec", photos)
    refused = placerec("index", "build", "town.placerec", photos, code=2)
    assert "--force" in refused.stderr
    placerec("index", "build", "town.placerec", photos, "--force")


def test_adding_a_folder_twice_adds_nothing(placerec, photos):
    placerec("index", "build", "town.placerec", photos)
    assert "6 unchanged" in placerec("index", "add", "town.placerec", photos).stdout


def test_refresh_sees_new_changed_and_deleted_photos(placerec, photos):
    placerec("index", "build", "town.placerec", photos)
    (photos / "place_000.jpg").unlink()
    shutil.copy(photos / "place_001.jpg", photos / "place_002.jpg")
    (photos / "sub").mkdir()
    shutil.copy(photos / "place_003.jpg", photos / "sub" / "place_003.jpg")
    output = placerec("index", "refresh", "town.placerec").stdout
    assert "1 added, 1 changed, 4 unchanged, 1 removed, 0 skipped" in output
    again = placerec("index", "refresh", "town.placerec").stdout
    assert "6 unchanged, 0 skipped" in again


def test_add_and_remove_one_photo_from_elsewhere(placerec, photos, town):
    placerec("index", "build", "town.placerec", photos)
    placerec("index", "add", "town.placerec", town / "queries" / "night_000.jpg")
    names = placerec("index", "info", "town.placerec", "--photos").stdout.split()
    outside = [name for name in names if name.startswith("../")]
    assert len(outside) == 1
    assert Path(outside[0]).name == "night_000.jpg"
    placerec("index", "remove", "town.placerec", outside[0], "place_000.jpg")
    assert json.loads(placerec("index", "info", "town.placerec", "--json").stdout)["photos"] == 5
    refused = placerec("index", "remove", "town.placerec", "place_000.jpg", code=3)
    assert "no such photo in the index" in refused.stderr
    assert refused.stderr.endswith(": placerec index info town.placerec --photos\n")


def test_bad_photos_are_skipped_listed_and_exit_with_5(placerec, photos):
    (photos / "empty.jpg").write_bytes(b"")
    (photos / "text.png").write_text("not a picture")
    data = (photos / "place_000.jpg").read_bytes()
    (photos / "half.jpg").write_bytes(data[: len(data) // 2])
    built = placerec("index", "build", "town.placerec", photos, code=5)
    assert "6 added, 3 skipped" in built.stdout
    lines = built.stderr.splitlines()
    start = lines.index("skipped 3 photos:")
    assert [line.split(":")[0].strip() for line in lines[start + 1 : start + 4]] == [
        "empty.jpg", "half.jpg", "text.png",
    ]  # fmt: skip
    assert json.loads(placerec("index", "info", "town.placerec", "--json").stdout)["photos"] == 6


def test_a_folder_of_bad_photos_alone_leaves_no_file(placerec, tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.jpg").write_bytes(b"x")
    assert "none of its 1 photos" in placerec(
        "index", "build", "a.placerec", tmp_path / "bad", code=5
    ).stderr  # fmt: skip
    assert list(placerec.folder.iterdir()) == []


@pytest.mark.parametrize("kind", ["missing", "empty"])
def test_a_folder_without_photos_is_not_found(placerec, tmp_path, kind):
    folder = tmp_path / kind
    if kind == "empty":
        folder.mkdir()
    placerec("index", "build", "a.placerec", folder, code=3)
    assert list(placerec.folder.iterdir()) == []


def test_positions_come_from_a_table(placerec, photos, tmp_path):
    table = tmp_path / "where.csv"
    table.write_text("image,latitude,longitude\nplace_000.jpg,52.5,13.25\n")
    built = placerec("index", "build", "town.placerec", photos, "--positions", table)
    assert "6 of 6 new or changed photos have a position" in built.stdout
    output = placerec("query", "town.placerec", photos / "place_000.jpg", "--json").stdout
    best = json.loads(output)[0]["places"][0]
    assert (best["path"], best["latitude"], best["longitude"]) == ("place_000.jpg", 52.5, 13.25)
    table.write_text("image,latitude,longitude\nplace_000.jpg,95,13.25\n")
    refused = placerec("index", "build", "b.placerec", photos, "--positions", table, code=4)
    assert "line 2" in refused.stderr


def test_fifty_photos_fit_their_own_model_and_refit_fits_anew(placerec, many_photos, tmp_path):
    photos = Path(shutil.copytree(many_photos, tmp_path / "many"))
    placerec("index", "build", "a.placerec", photos, "--image-size", "160,224")
    first = json.loads(placerec("index", "info", "a.placerec", "--json").stdout)
    assert "fitted on" in first["model"]
    shutil.copy(photos / "007.png", photos / "new.png")
    placerec("index", "add", "a.placerec", photos)
    added = json.loads(placerec("index", "info", "a.placerec", "--json").stdout)
    assert (added["photos"], added["fingerprint"]) == (53, first["fingerprint"])
    assert "too few" not in placerec("index", "refit", "a.placerec").stderr
    refitted = json.loads(placerec("index", "info", "a.placerec", "--json").stdout)
    assert refitted["photos"] == 53
    assert refitted["fingerprint"] != first["fingerprint"]


def test_a_build_ends_with_what_a_person_should_look_at(placerec, photos, tmp_path):
    tag, exif = ExifTags.GPS, Image.Exif()
    exif[ExifTags.IFD.GPSInfo] = {
        tag.GPSLatitudeRef: "N", tag.GPSLatitude: (52.0, 75.0, 0.0),
        tag.GPSLongitudeRef: "E", tag.GPSLongitude: (13.0, 15.0, 0.0),
    }  # fmt: skip
    with Image.open(photos / "place_000.jpg") as image:
        image.save(photos / "place_000.jpg", exif=exif)
    Image.new("RGB", (160, 120), "black").save(photos / "a\nb.png")
    (photos / "clip.mp4").write_bytes(b"x")
    table = tmp_path / "where.csv"
    table.write_text("filename;lat;lon\nplace_001.jpg;52,5;13,25\nplce_002.jpg;52,5;13,25\n")
    built = placerec("index", "build", "a.placerec", photos, "--positions", table, code=5)
    assert "a.placerec: 7 added, 0 skipped" in built.stdout
    last = built.stderr.splitlines()[-4:]
    assert last == [
        "1 photo has a GPS tag that cannot be right: place_000.jpg",
        r"1 photo has nothing to recognise (one colour, a covered lens, or tiny): a\nb.png",
        "1 row of the positions names no photo: line 3: plce_002.jpg",
        "left out: videos (1: clip.mp4)",
    ]
    info = placerec("index", "info", "a.placerec").stdout.splitlines()
    assert set(last[:2]) <= set(info)
    facts = json.loads(placerec("index", "info", "a.placerec", "--json").stdout)
    assert (facts["gps_damaged"], facts["blank"]) == (["place_000.jpg"], ["a\nb.png"])
    listed = json.loads(placerec("index", "info", "a.placerec", "--photos", "--json").stdout)
    assert [photo["path"] for photo in listed][:2] == ["a\nb.png", "place_000.jpg"]
    assert (listed[0]["blank"], listed[0]["latitude"]) == (True, None)
    assert (listed[2]["latitude"], listed[2]["longitude"]) == (52.5, 13.25)


def test_info_is_for_people(placerec, photos):
    build_index(placerec.folder / "a.placerec", photos)
    (placerec.folder / "a.placerec.partial").write_bytes(b"")
    (photos / "place_000.jpg").unlink()
    lines = placerec("index", "info", "a.placerec").stdout.splitlines()
    assert lines[:2] == ["photos: 6, 6 with a position", f"folder: {photos}"]
    generic = model_facts("generic")
    assert lines[3:6] == [
        f"trained on: {generic['training_data']}", f"provenance: {generic['provenance']}",
        f"licence: {generic['licence']}",
    ]  # fmt: skip
    assert lines[6].startswith("confidence: 6 photos are too few; ")
    assert lines[7] == "preset: default"
    assert lines[8].startswith("size: ")
    assert lines[8].count(" kB") == 2
    assert lines[10] == "not in the folder: 1 of 6 photos; placerec index refresh a.placerec"
    assert lines[11].startswith("a.placerec.partial: ")
    assert lines[12].split() == ["setting", "value"]  # last, because there are many
    table = dict(line.split() for line in lines[12:])
    assert (table["image_size"], table["patch_sizes"]) == ("480,640", "2x2")


def test_an_index_is_pointed_to_the_new_folder(placerec, photos, tmp_path):
    build_index(placerec.folder / "a.placerec", photos)
    photos.rename(tmp_path / "new")
    assert "the folder is gone" in placerec("index", "info", "a.placerec").stdout
    refused = placerec("index", "refresh", "a.placerec", code=3)
    assert refused.stderr.endswith(
        "give the new folder: placerec index refresh a.placerec --folder NEW\n"
    )
    moved = placerec("index", "refresh", "a.placerec", "--folder", tmp_path / "new")
    assert "6 unchanged, 0 skipped" in moved.stdout
    with IndexReader.open(placerec.folder / "a.placerec") as reader:
        assert reader.info.root == tmp_path / "new"


def test_swapped_arguments_are_named(placerec, photos):
    build_index(placerec.folder / "a.placerec", photos)
    photo = photos / "place_000.jpg"
    for command in ("add", "remove"):
        refused = placerec("index", command, photo, "a.placerec", code=2)
        assert f"did you mean: placerec index {command} a.placerec {photo}?" in refused.stderr


def test_a_command_of_an_index_of_an_onnx_file_names_the_option(placerec, photos):
    (placerec.folder / "net.onnx").write_bytes(shipped_onnx())
    settings = Settings(image_size=(120, 160))
    build_index("a.placerec", photos, model="net.onnx", settings=settings)
    photo = photos / "place_000.jpg"
    wanted = (
        "error: a.placerec: made with the trunk net.onnx, a file outside placerec: give that "
        "file as model: --model FILE.onnx\n"
    )
    for words in (
        ("query", "a.placerec", photo), ("serve", "a.placerec"), ("geotag", "a.placerec", photo),
        ("index", "add", "a.placerec", photo), ("index", "refresh", "a.placerec"),
        ("index", "refit", "a.placerec"), ("pairs", "a.placerec", "--out", "p.txt", "--sure", 0.5),
    ):  # fmt: skip
        assert placerec(*words, code=2).stderr == wanted
    answer = placerec("query", "a.placerec", photo, "--model", "net.onnx")
    assert "place_000.jpg" in answer.stdout


def test_one_finding_is_one_finding(placerec, photos):
    build_index(placerec.folder / "a.placerec", photos)
    with closing(sqlite3.connect(placerec.folder / "a.placerec", isolation_level=None)) as index:
        index.execute("DELETE FROM weights")
    refused = placerec("index", "verify", "a.placerec", code=4)
    assert refused.stdout == "the fitted model is missing\n"
    assert "a.placerec: 1 finding; restore a copy" in refused.stderr
