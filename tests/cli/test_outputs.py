"""What a command may replace: nothing but its own pictures, GeoJSON files and run folders."""

import json
import shutil
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image

from placerec.cli import cli
from placerec.cli.commands import Group
from placerec.cli.outputs import NewFile, RunFolder
from placerec.demo import write_demo_photos
from placerec.index.build import build_index
from placerec.recognise import draw_match
from placerec.recognise.picture import is_drawn
from placerec.records import Place

FILES = [  # every file that a command writes, with the words before and after its name
    (["query", "a.placerec", "p.jpg", "--geojson"], []),
    (["query", "a.placerec", "p.jpg", "--picture"], []),
    (["query", "a.placerec", "p.jpg", "--track"], []),
    (["match", "p.jpg", "p.jpg", "--picture"], []),
    (["pairs", "a.placerec", "--out"], []),
    (["pairs", "a.placerec", "--out", "p.txt", "--descriptors"], []),
    (["geotag", "a.placerec", "p.jpg", "--csv"], []),
    (["geotag", "a.placerec", "p.jpg", "--gpx"], []),
    (["geotag", "a.placerec", "p.jpg", "--geojson"], []),
    (["fit", "photos", "--out"], []),
    (["adapt", "auto", "photos", "--out"], []),
    (["features", "p.jpg", "--weights", "w.safetensors", "--out"], []),
    (["weights", "import", "c.pth.tar"], []),
    (["weights", "export", "m.safetensors"], []),
    (["weights", "convert", "vgg16", "s.whl", "--out"], []),
    (["predictions", "export", "data", "run"], ["--form", "hloc"]),
]
FOLDERS = [  # every folder
    (["evaluate", "data", "--out"], []),
    (["predictions", "import", "data", "f.txt", "--form", "hloc", "--out"], []),
    (["reproduce", "sizes", "data", "--out"], []),
    (["train", "data", "--out"], []),
    (["demo", "--out"], []),
]


def outputs(command, path=()):
    """The parameters of a command and of those below it that are outputs, by their command."""
    if isinstance(command, Group):
        for name, child in command.commands.items():
            yield from outputs(child, (*path, name))
    for param in command.params:
        if isinstance(param.type, NewFile | RunFolder) or param.name == "picture":
            yield path, param


def test_the_lists_have_every_output():
    listed = {tuple(word for word in words[: len(path)]) for words, _ in FILES + FOLDERS
              for path, _ in outputs(cli) if words[: len(path)] == list(path)}  # fmt: skip
    assert len(list(outputs(cli))) == len(FILES) + len(FOLDERS)
    assert listed == {path for path, _ in outputs(cli)}
    names = {"out", "geojson", "picture"}
    for command in cli.commands.values():
        for child in getattr(command, "commands", {"": command}).values():
            for param in child.params:
                if param.name in names and param.name != "picture":
                    assert isinstance(param.type, NewFile | RunFolder), (child.name, param.name)


@pytest.mark.parametrize(("words", "more"), FILES, ids=lambda words: " ".join(words[:2]))
def test_a_file_of_the_user_is_not_replaced(words, more, placerec):
    (placerec.folder / "p.jpg").write_bytes(b"a photo")
    mine = placerec.folder / "mine.png"
    for write in (lambda: Image.new("RGB", (9, 9)).save(mine), lambda: mine.write_text('{"a": 1}')):
        write()
        before = mine.read_bytes()
        assert "mine.png: already exists" in placerec(*words, "mine.png", *more, code=2).stderr
        assert mine.read_bytes() == before


@pytest.mark.parametrize(("words", "more"), FILES, ids=lambda words: " ".join(words[:2]))
def test_a_folder_is_no_name_of_a_file(words, more, placerec):
    (placerec.folder / "p.jpg").write_bytes(b"a photo")
    (placerec.folder / "x.png").mkdir()
    for name in (".", "x.png"):
        if "query" in words and "--picture" in words:
            continue  # a folder of pictures
        assert f"{name}: a folder; name a file" in placerec(*words, name, *more, code=2).stderr
    assert "no such folder" in placerec(*words, "nowhere/x.png", *more, code=3).stderr


@pytest.mark.parametrize(("words", "more"), FOLDERS, ids=lambda words: " ".join(words[:2]))
def test_a_folder_of_the_user_is_no_output_folder(words, more, placerec):
    mine = placerec.folder / "mine"
    mine.mkdir()
    (mine / "report.html").write_text("mine")
    for name, why in (
        ("mine", "it has other files"),
        ("mine/report.html", "a file; name a folder"),
    ):
        assert why in placerec(*words, name, *more, code=2).stderr
    assert [path.name for path in mine.iterdir()] == ["report.html"]
    assert (mine / "report.html").read_text() == "mine"


def test_a_picture_and_a_geojson_of_placerec_are_replaced(placerec, town, town_index):
    for number in range(2):
        photo = town / "queries" / f"night_00{number}.jpg"
        placerec("query", town_index, photo, "--picture", "p.jpg", "--geojson", "p.geojson")
        (best, *_) = json.loads((placerec.folder / "p.geojson").read_text())["features"]
        assert best["properties"]["query"] == str(photo)
    first = (placerec.folder / "p.jpg").read_bytes()
    placerec("match", photo, town / "database" / "place_003.jpg", "--picture", "p.jpg")
    assert (placerec.folder / "p.jpg").read_bytes() != first


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_a_picture_of_any_format_is_recognised(suffix, tmp_path):
    path, pixels = tmp_path / f"drawn{suffix}", np.zeros((48, 64, 3), np.uint8)
    draw_match(pixels, pixels, Place(1, "a.jpg", 1.0, 1.0), path)
    assert is_drawn(path)
    with Image.open(path) as image:
        image.save(path)  # by another program
    assert not is_drawn(path)


def test_a_picture_in_the_photo_folder_is_a_photo(placerec, town):
    Path("photos").mkdir()
    photo, drawn = town / "database" / "place_000.jpg", Path("photos", "drawn.png")
    placerec("match", photo, photo, "--picture", drawn)
    before = drawn.read_bytes()
    build_index("a.placerec", "photos")
    for words in (("match", drawn, photo), ("query", "a.placerec", photo)):
        assert "a photo of this command" in placerec(*words, "--picture", drawn, code=2).stderr
    assert drawn.read_bytes() == before


def test_no_picture_of_several_replaces_a_file_of_the_user(placerec, town, town_index):
    (placerec.folder / "drawn").mkdir()
    mine = placerec.folder / "drawn" / "002_night_001.png"
    mine.write_bytes(b"mine")
    photos = [town / "queries" / f"night_00{number}.jpg" for number in range(2)]
    words = ("query", town_index, *photos, "--picture", "drawn")
    assert "drawn/002_night_001.png: already exists" in placerec(*words, code=2).stderr
    assert [path.read_bytes() for path in mine.parent.iterdir()] == [b"mine"]
    shutil.copy(mine.parent / mine.name, mine.parent / "mine.png")
    mine.unlink()
    placerec(*words)
    assert len(list(mine.parent.iterdir())) == 3


def test_a_hidden_file_makes_no_folder_full(placerec):
    (placerec.folder / "run").mkdir()
    (placerec.folder / "run" / ".DS_Store").write_bytes(b"x")
    kind = RunFolder("predictions.jsonl")
    assert kind.convert("run", None, click.Context(cli)) == Path("run")


def test_fewer_places_leave_no_earlier_ones(tmp_path, monkeypatch):
    tiny = np.zeros((4, 4, 3), np.uint8)
    monkeypatch.setattr("placerec.demo.photos.render", lambda *_: tiny)
    write_demo_photos(tmp_path, 3)
    shutil.copy(tmp_path / "database" / "place_000.jpg", tmp_path / "database" / "place_mine.jpg")
    with (tmp_path / "poses.csv").open("a") as table:
        table.write("../mine.jpg,0,0,0,0,0,0\n")
    (tmp_path.parent / "mine.jpg").write_bytes(b"mine")
    write_demo_photos(tmp_path, 1)
    names = sorted(path.name for path in tmp_path.rglob("*.jpg"))
    assert names == ["night_000.jpg", "place_000.jpg", "place_mine.jpg"]
    assert (tmp_path.parent / "mine.jpg").exists()


def test_a_killed_demo_is_begun_again(tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("placerec.demo.photos.render", stop)
    with pytest.raises(KeyboardInterrupt):
        write_demo_photos(tmp_path / "photos", 2)
    kind = RunFolder("photos/poses.csv")
    assert kind.convert(str(tmp_path), None, click.Context(cli)) == tmp_path
